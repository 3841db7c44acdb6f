import { describeReadModel } from './support/contracts/read-model.js';
import { memoryReadModel } from './support/models/memory-read-model.js';
import { describeReadModelModel } from './support/models/read-model.js';

describeReadModel('memory', async () => memoryReadModel());
describeReadModelModel('memory', () => ({ open: async () => memoryReadModel() }));

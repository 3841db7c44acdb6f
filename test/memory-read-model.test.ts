import { memoryReadModel } from '../src/projections/memory-read-model.js';
import { describeReadModel } from './read-model-contract.js';
import { describeReadModelModel } from './read-model-model.js';

describeReadModel('memory', async () => memoryReadModel());
describeReadModelModel('memory', () => ({ open: async () => memoryReadModel() }));

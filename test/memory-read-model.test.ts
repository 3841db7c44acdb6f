import { memoryReadModel } from '../src/projections/memory-read-model.js';
import { describeReadModel } from './read-model-contract.js';

describeReadModel('memory', async () => memoryReadModel());

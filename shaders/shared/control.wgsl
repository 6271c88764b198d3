// The words that the host writes before each run; kernel::Control has the same order.
const CONTROL_STEP = 0u;
const CONTROL_SEED_LOW = 1u;
const CONTROL_SEED_HIGH = 2u;
const CONTROL_LEARNING_RATE = 3u;
const CONTROL_CORRECTION_1 = 4u;
const CONTROL_CORRECTION_2 = 5u;
const CONTROL_AVERAGE_SHARE = 6u;

const ROLE_R = 0u;
const ROLE_Z = 1u;
const ROLE_N = 2u;

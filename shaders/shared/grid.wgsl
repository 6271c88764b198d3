// Workgroups that make the steps of a layer together: TILES of them share the units of some batch rows, each
// UNITS of them, and hand over what they computed through `progress`. It begins with [groups of rows, tile]: how many
// steps each has made. Before a step a workgroup waits until all of its rows' have made the one before. A wait has an
// end: SPINS rounds for all steps. Then the workgroup leaves, with what it made in place, and its number in `progress`
// says where. No workgroup is ever more than one step ahead of another of its rows.
// A workgroup makes a step of TURNS groups of rows, one after another: what one waits for is on its way while the
// others are at work.
//
// REST: the launch behind, one workgroup for all tiles of some rows. It makes the steps that are missing, in the
// same order of sums; none, as a rule. What a tile has made it does not make again: steps are not repeatable.
const TILES = #{TILES}u;
const TURNS = #{TURNS}u;

#ifdef REST
var<workgroup> made: array<u32, TILES>;
var<workgroup> begin: u32;

// What the tiles of the rows have made; begin: what all of them have.
fn read_progress(first: u32, index: u32) {
    for (var tile = index; tile < TILES; tile += THREADS) {
        made[tile] = atomicLoad(&progress[first + tile]);
    }
    workgroupBarrier();
    if index == 0u {
        begin = made[0];
        for (var tile = 1u; tile < TILES; tile++) {
            begin = min(begin, made[tile]);
        }
    }
}
#else
#import shared/counter

// Behind the counters lies what is handed over, [parity of the step, group of rows, HANDED] of bits, as it lies in the
// tile: other workgroups write what the next step needs while slow ones still read what this one does, and none is
// further ahead. All of it atomic: what a workgroup stores plainly another one may never see, where the memory
// model is Vulkan's, which cooperative matrices ask for and in which only accesses that are marked so go over a barrier.
fn handed_from(row_group: u32, s: u32) -> u32 {
    let groups = (given.batch + ROWS - 1u) / ROWS;
    return groups * TILES + ((s & 1u) * groups + row_group) * HANDED;
}

fn hand_over(at: u32, value: f32) {
    atomicStore(&progress[at], bits_of(value));
}

fn handed(at: u32) -> f32 {
    return value_of(atomicLoad(&progress[at]));
}

var<workgroup> late: atomic<u32>;
var<workgroup> is_late: u32;
var<private> spins: u32;

fn start_in_time(index: u32) {
    if index == 0u {
        atomicStore(&late, 0u);
    }
    workgroupBarrier();
}

// Waits until all tiles of the rows have made `steps` steps; is_late says that they have not.
fn wait(first: u32, steps: u32, index: u32) {
    for (var tile = index; tile < TILES; tile += THREADS) {
        while !has_come(first + tile, steps) {
            spins++;
            if spins > #{SPINS}u {
                atomicStore(&late, 1u);
                break;
            }
        }
    }
    storageBarrier();
    workgroupBarrier();
    if index == 0u {
        is_late = atomicLoad(&late);
    }
}

// What all threads wrote is there before it is told.
fn tell(at: u32, steps: u32, index: u32) {
    storageBarrier();
    if index == 0u {
        atomicStore(&progress[at], steps);
    }
}
#endif

// Workgroups that make the steps of a layer together: TILES of them share the units of some batch rows, each
// UNITS of them, and hand over what they computed through `progress`. It begins with [groups of rows, tile]: how many
// steps each has made, which a workgroup tells when it leaves. A wait has an end: SPINS rounds for all waits, or for each.
// Then the workgroup leaves, with what it made in place.
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
// Behind the counters lies what is handed over, [step % RING, group of rows, gate, row, word]: what that step hears. Step 0
// hears what was there before the launch, and that is handed over too: a loop with two ways to read has more registers.
// A word is one value, or two of neighbouring units (PAIRED), its bits inverted, so that 0 is none yet: a workgroup looks
// at the very words that it needs until none is 0, and there is no other signal. All of it is atomic: what a workgroup stores
// plainly another one may never see, where the memory model is Vulkan's, which cooperative matrices ask for.
//
// Step s reads the words for step s and writes those for step s + 1. The words for step k are made 0 again by who wrote them,
// behind the products of step k + 1: that workgroup has seen all words for step k + 1, which nobody hands over who still reads
// those for step k. Nothing orders that 0 and a later word for the others but a storageBarrier on both sides, which is dear:
// there is one in every FENCE-th step, between its reading and its handing over. The writer's next one is in step
// f ≤ k + 1 + FENCE, the words for step f + 1 lie behind it; who has read those passes the next one in step f + FENCE, and looks
// behind it for words for the next step and later. So a place must not be taken again before step k + 1 + 2·FENCE, which
// writes the words for step k + 2 + 2·FENCE.
const FENCE = 8u;
const RING = 2u * FENCE + 2u;
const HANDED_LINE = #{HANDED_LINE}u;    // words of a row
const HANDED_PLANE = ROWS * HANDED_LINE;
const HANDED = #{HANDED_COUNT}u * HANDED_PLANE;
// How threads read them: LANE_WORDS words of a row side by side, of AT_ONCE rows; then of further rows, then further words.
const LANE_WORDS = #{LANE_WORDS}u;
const AT_ONCE = THREADS / LANE_WORDS;
const READ_STEPS = (ROWS + AT_ONCE - 1u) / AT_ONCE;
const READ_PLACES = (HANDED_LINE + LANE_WORDS - 1u) / LANE_WORDS * READ_STEPS;
// Whether what no unit or row hands over has places in the tile too. They are 0, and a thread may write that.
const ALL_IN_TILE = HANDED_LINE % LANE_WORDS == 0u && THREADS % LANE_WORDS == 0u && ROWS % AT_ONCE == 0u
    && READ_PLACES % #{READ_COUNT}u == 0u;

fn handed_from(row_group: u32, s: u32) -> u32 {
    let groups = (given.batch + ROWS - 1u) / ROWS;
    return groups * TILES + (s % RING * groups + row_group) * HANDED;
}

// A word that a thread reads.
struct Place {
    row: u32,
    word: u32,
    unit: u32,
    there: bool,
}

fn place_of(row_group: u32, number: u32, index: u32) -> Place {
    let row = number % READ_STEPS * AT_ONCE + index / LANE_WORDS;
    let word = number / READ_STEPS * LANE_WORDS + index % LANE_WORDS;
#ifdef PAIRED
    let unit = 2u * word;
#else
    let unit = word;
#endif
#ifdef ALL_THERE
    return Place(row, word, unit, true);
#else
    // All are computed: a branch for each would cost more.
    let inside = ALL_IN_TILE
        | ((number < READ_PLACES) & (index < AT_ONCE * LANE_WORDS) & (row < ROWS) & (word < HANDED_LINE));
    let there = inside & (row_group * ROWS + row < given.batch) & (unit < given.head);
    return Place(row, word, unit, there);
#endif
}

fn hand_over_bits(row_group: u32, s: u32, place: u32, bits: u32) {
    atomicStore(&progress[handed_from(row_group, s + RING - 2u) + place], 0u);
    // A NaN of all ones becomes another one.
    atomicStore(&progress[handed_from(row_group, s) + place], max(~bits, 1u));
}

#ifdef PAIRED
// By the threads of two neighbouring units, side by side in a subgroup.
fn hand_over(row_group: u32, s: u32, gate: u32, own: Own, value: f32) {
    let mine = select(0.0, value, own.there);
    let bits = pack2x16float(vec2<f32>(mine, subgroupShuffleXor(mine, 1u)));
    if own.there && own.at.unit % 2u == 0u {
        let place = gate * HANDED_PLANE + own.row * HANDED_LINE + own.at.unit / 2u;
        hand_over_bits(row_group, s, place, bits);
    }
}

fn values_of(word: u32) -> vec2<f32> {
    return unpack2x16float(~word);
}
#else
fn hand_over(row_group: u32, s: u32, gate: u32, own: Own, value: f32) {
    if own.there {
        let place = gate * HANDED_PLANE + own.row * HANDED_LINE + own.at.unit;
        hand_over_bits(row_group, s, place, bits_of(value));
    }
}

fn value_of(word: u32) -> f32 {
    return value_of_bits(~word);
}
#endif

var<workgroup> late: atomic<u32>;
var<private> spins: u32;

fn start_in_time(index: u32) {
    if index == 0u {
        atomicStore(&late, 0u);
    }
    workgroupBarrier();
}

// A driver on the CPU runs the subgroups of a workgroup one after another from barrier to barrier: one that waits would wait for
// those behind it for ever. Such a driver counts rounds.
fn all_have_handed_over() {
#ifndef EACH_WAIT
    workgroupBarrier();
#endif
}

#ifndef BY_GATE
// What step s hears, of all units of the workgroup's rows, into the tile. What is no unit, or no row, is handed over by
// none.
fn read_handed(row_group: u32, s: u32, index: u32) {
    all_have_handed_over();
    let from_at = handed_from(row_group, s);
    for (var first = 0u; first < READ_PLACES; first += #{READ_COUNT}u) {
#paste shared/handed_places
#for H in 0
#paste shared/handed_wait
#paste shared/handed_put
#end
    }
}
#endif

// How many steps a workgroup has made of each group of its rows: it leaves at a turn of a step.
fn tell(group: vec3<u32>, s: u32, left_turn: u32, index: u32) {
    if index != 0u {
        return;
    }
    for (var turn = 0u; turn < TURNS; turn++) {
        let row_group = group.y * TURNS + turn;
        if row_group * ROWS < given.batch {
            atomicStore(&progress[row_group * TILES + group.x], s + u32(turn < left_turn));
        }
    }
}
#endif

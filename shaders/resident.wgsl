// Whether all workgroups of a launch are at work side by side: each tells that it is there and waits until all are,
// for a while. progress[0]: how many came; progress[1]: how many waited in vain.
struct Params {
    groups: u32,
    spins: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
#bindings

// As large as the workgroups that are to be kept.
var<workgroup> room: array<u32, #{WORDS}>;

#import shared/counter

@compute @workgroup_size(#{THREADS})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    room[(index * 7u + group.x) % #{WORDS}u] = index;
    workgroupBarrier();
    if index != 0u {
        return;
    }
    atomicAdd(&progress[0], 1u);
    for (var spin = 0u; spin < p.spins; spin++) {
        if has_come(0u, p.groups) {
            return;
        }
    }
    // Never more than the room has words: so that it is used.
    atomicAdd(&progress[1], select(1u, 2u, room[0] > 65535u));
}

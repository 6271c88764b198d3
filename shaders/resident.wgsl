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
    for (var i = index; i < #{WORDS}u; i += #{THREADS}u) {
        room[i] = i + group.x;
    }
    workgroupBarrier();
    // As many words live over the wait as a kernel of a grid has weights in registers.
#for TENS in 0 1 2 3 4 5 6 7
#for ONES in 0 1 2 3 4 5 6 7
    let word_#{TENS}_#{ONES} = room[(index + #{TENS}u * 8u + #{ONES}u) % #{WORDS}u];
#end
#end
    if index == 0u {
        atomicAdd(&progress[0], 1u);
        var came = false;
        for (var spin = 0u; spin < p.spins && !came; spin++) {
            came = has_come(0u, p.groups);
        }
        if !came {
            atomicAdd(&progress[1], 1u);
        }
    }
    workgroupBarrier();
    var sum = 0u;
#for TENS in 0 1 2 3 4 5 6 7
#for ONES in 0 1 2 3 4 5 6 7
    sum = sum * 3u + word_#{TENS}_#{ONES};
#end
#end
    // Never: so that the words are used.
    if sum == 0x5eed5eedu && room[0] == 0x5eed5eedu {
        atomicAdd(&progress[1], 1u);
    }
}

// Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011): two random words from a key and a counter, with adds, rotations and xors only.
fn rotate_left(x: u32, by: u32) -> u32 {
    return (x << by) | (x >> (32u - by));
}

fn four_rounds(x: vec2<u32>, r: vec4<u32>) -> vec2<u32> {
    var a = x.x;
    var b = x.y;
    a += b; b = rotate_left(b, r.x) ^ a;
    a += b; b = rotate_left(b, r.y) ^ a;
    a += b; b = rotate_left(b, r.z) ^ a;
    a += b; b = rotate_left(b, r.w) ^ a;
    return vec2<u32>(a, b);
}

fn threefry2x32(key: vec2<u32>, counter: vec2<u32>) -> vec2<u32> {
    let k2 = 0x1BD11BDAu ^ key.x ^ key.y;
    let even = vec4<u32>(13u, 15u, 26u, 6u);
    let odd = vec4<u32>(17u, 29u, 16u, 24u);
    var x = counter + key;
    x = four_rounds(x, even) + vec2<u32>(key.y, k2 + 1u);
    x = four_rounds(x, odd) + vec2<u32>(k2, key.x + 2u);
    x = four_rounds(x, even) + vec2<u32>(key.x, key.y + 3u);
    x = four_rounds(x, odd) + vec2<u32>(key.y, k2 + 4u);
    x = four_rounds(x, even) + vec2<u32>(k2, key.x + 5u);
    return x;
}

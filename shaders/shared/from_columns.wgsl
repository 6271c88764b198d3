// The adjoint of taking columns: place (y, x) of channel `unit` was read by its neighbours, once for
// each tap (ky, kx): neighbour (y − ky + kh/2, x − kx + kw/2) had it in column unit·taps + tap.
fn from_columns(row: u32, part: u32, unit: u32) -> f32 {
    let first = (row / p.places) * p.places;
    let place = row % p.places;
    let taps = p.kernel_height * p.kernel_width;
    var sum = 0.0;
    for (var tap = 0u; tap < taps; tap++) {
        // Below 0 wraps round to a large number, which is outside as well.
        let y = place / p.map_width - tap / p.kernel_width + p.kernel_height / 2u;
        let x = place % p.map_width - tap % p.kernel_width + p.kernel_width / 2u;
        if y < p.map_height && x < p.map_width {
            let neighbour = first + y * p.map_width + x;
            sum += d_columns[((neighbour * PARTS + part) * p.width + unit) * taps + tap];
        }
    }
    return sum;
}

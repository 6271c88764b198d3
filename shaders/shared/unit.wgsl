// The parameters by unit (peepholes, gains), [E,H], and their gradients.
var<private> here: u32;     // the unit

#ifdef HAS_unit_parameters
fn parameter(vector: u32) -> f32 {
    return unit_parameters[vector * p.hidden + here];
}
#endif

#ifdef HAS_d_unit
// d_unit [B,E·H]: what the steps so far gave to the parameters by unit, a row for each batch row.
var<private> here_row: u32;

fn add_parameter_gradient(vector: u32, value: f32) {
    let at = (here_row * #{UNIT_VECTORS}u + vector) * p.hidden + here;
    d_unit[at] += value;
}
#endif

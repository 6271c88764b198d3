// Workgroups are spread over x and y where one dimension is too small for them.
fn group_number(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + group.y * groups.x;
}

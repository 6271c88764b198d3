    // Units of one head: of all of them, where there is one.
    let tiles = (p.head + MATRIX - 1u) / MATRIX;
    let head_unit = group.x / tiles * p.head;
    let first_unit = head_unit + group.x % tiles * MATRIX;
    let end_unit = min(head_unit + p.head, p.units);
    let first_k = group.x / tiles * p.#{TERMS};
    let block = Block(group.y * ROWS, first_unit, end_unit, head_unit, first_k, p.#{TERMS});

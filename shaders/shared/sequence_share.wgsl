    // A thread's part of the products.
#ifdef MATRICES
    let share = share_of(subgroup, lane);
#else
    let share = share_of(index);
#endif

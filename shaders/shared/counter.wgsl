// Whether a counter has come to `count`. Looks 64 times in a round of the loop that asks: a driver may count rounds.
fn has_come(at: u32, count: u32) -> bool {
#for TENS in 0 1 2 3 4 5 6 7
#for ONES in 0 1 2 3 4 5 6 7
    if atomicLoad(&progress[at]) >= count {
        return true;
    }
#end
#end
    return false;
}

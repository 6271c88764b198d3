            // What belongs to one of several units is at hand again.
#ifdef SEVERAL
            held_states = kept_states_#{E};
            held_words = kept_words_#{E};
            held_output = kept_output_#{E};
            held_carry = kept_carry_#{E};
#endif

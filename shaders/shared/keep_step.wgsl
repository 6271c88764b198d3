            // What a step read of one of several units.
#ifdef SEVERAL
            kept_states_#{E} = held_states;
            kept_words_#{E} = held_words;
            kept_output_#{E} = held_output;
#endif

//! What the documentation says of jobs, sentence by sentence.

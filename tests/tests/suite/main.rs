//! The tests of the whole: the house rules, the documents, the scripts, and real processes.

mod tidy;

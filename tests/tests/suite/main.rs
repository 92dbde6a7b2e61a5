//! The tests of the whole: the house rules, the documents, the scripts, and real processes.

mod completion;
mod damage;
mod disk_full;
mod examples;
mod fuzz;
mod history;
mod hostile;
mod kills;
mod leaders;
mod load;
mod load_manners;
mod membership;
mod mutants;
mod outcomes;
mod readme;
mod recipes;
mod recover;
mod refusals;
mod restart;
mod rolling;
mod scripts;
mod sim;
mod snapshots;
mod tidy;
mod torture;
mod values;

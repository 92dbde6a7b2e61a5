//! Verbs that print rows of text, in every format.

use wire::client::{NodeRole, Reply};

use super::fake::Fake;
use super::run::run;
use super::script::status;

fn leader() -> Fake {
    Fake::start(1, |asked| {
        let told = status(1, NodeRole::Leader, ["", "", ""], [true; 3]);
        asked.reply(&Reply::Status(told))
    })
}

#[test]
fn fields_come_in_the_order_in_which_they_were_asked_for() {
    let node = leader();
    let fields = ["peers", "--field", "role,name,id"];
    let lines = "leader\tn1\t1\n-\tn2\t2\n-\tn3\t3\n";
    let csv = lines.replace('\t', ",");
    let nul = lines.replace(['\t', '\n'], "\0");
    let rows = "leader  n1     1\n-       n2     2\n-       n3     3\n";
    let bare = "leader  n1  1\n-       n2  2\n-       n3  3\n";
    for (options, expected) in [
        (&[][..], lines.to_owned()),
        (&["--header"], format!("role\tname\tid\n{lines}")),
        (&["-o", "csv"], format!("role,name,id\n{csv}")),
        (&["-o", "csv", "--value"], csv),
        (&["-0"], nul),
        (&["-o", "table"], format!("ROLE    NAME  ID\n{rows}")),
        (&["-o", "table", "--no-header"], bare.to_owned()),
    ] {
        run(&node.addr, &[&fields[..], options].concat()).silently(0, expected);
    }
    // What is not known of a number stands below numbers.
    let terms = ["status", "--field", "name,term", "-o", "table"];
    let expected = "NAME  TERM\nn1       5\nn2       -\nn3       -\n";
    run(&node.addr, &terms).silently(0, expected);
}

#[test]
fn no_rows_are_a_header_for_programs_and_nothing_for_a_person() {
    let nobody = "127.0.0.1:1";
    run(nobody, &["context", "ls"]).silently(0, "");
    run(nobody, &["context", "ls", "-o", "table"]).silently(0, "");
    let header = run(nobody, &["context", "ls", "-o", "csv"]);
    assert!(header.stdout.starts_with(b"name,"), "{header:?}");
    let header = run(nobody, &["context", "ls", "-0", "--header"]);
    assert!(header.stdout.starts_with(b"name\0"), "{header:?}");
}

//! What people do in a shell, as they would type it, and what comes of it.

use std::fs;
use std::process::Command;

use raftd_tests::cluster::Cluster;
use raftd_tests::proc::{self, Done};

/// A cluster, and a person at work in an empty folder.
struct Person {
    cluster: Cluster,
}

impl Person {
    fn new() -> Self {
        let cluster = Cluster::start(3);
        fs::create_dir(cluster.path("here")).expect("made");
        Self { cluster }
    }

    /// Runs a script of bash, which must end with 0 and say nothing on standard error.
    #[track_caller]
    fn types(&self, script: &str) -> String {
        let done = self.tries(script);
        assert_eq!(
            (done.code, done.stderr.as_str()),
            (Some(0), ""),
            "{script}\n{done:?}"
        );
        done.text().to_owned()
    }

    fn tries(&self, script: &str) -> Done {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut bash = Command::new("bash");
        bash.args(["-o", "pipefail", "-c", script])
            .current_dir(self.cluster.path("here"))
            .env("PATH", format!("{}:{path}", proc::bin_dir().display()))
            .env("HOME", self.cluster.path("here"))
            .env("RAFTCTL_ENDPOINTS", self.cluster.endpoints())
            .env_remove("RAFTCTL_CONFIG")
            .env_remove("XDG_CONFIG_HOME");
        proc::run(bash, b"")
    }
}

#[test]
fn files_and_values() {
    let me = Person::new();
    me.types("printf 'server {\\n\\x00\\xff}' > nginx.conf");
    let sums = me.types(
        "raftctl put cfg/nginx < nginx.conf && raftctl get cfg/nginx | sha256sum
         sha256sum < nginx.conf",
    );
    let sums: Vec<_> = sums.lines().collect();
    assert_eq!(sums[0], sums[1]);
    assert_eq!(me.types("raftctl get feature/x --default off"), "off");
    let listed = me.types(
        "mkdir -p etc/ssl && echo key > etc/ssl/key
         tar -C etc -c ssl | raftctl put backup/ssl - ; raftctl get backup/ssl | tar -t",
    );
    assert_eq!(listed, "ssl/\nssl/key\n");
}

#[test]
fn many_keys_through_pipes() {
    let me = Person::new();
    me.types("for n in 1 2 3; do printf 'user/%s\\tname %s\\n' $n $n; done | raftctl load");
    assert_eq!(me.types("raftctl scan user/ | cut -f1 | wc -l"), "3\n");

    me.types("printf 'app/a\\t1\\napp/b\\ttwo words\\n' | raftctl load");
    me.types("raftctl dump app/ | gzip > app.tsv.gz; raftctl put app/a changed; raftctl del app/b");
    me.types("zcat app.tsv.gz | raftctl load --if-absent");
    assert_eq!(
        me.types("raftctl scan app/"),
        "app/a\tchanged\napp/b\ttwo words\n"
    );

    me.types(
        "raftctl -e \"$RAFTCTL_ENDPOINTS\" context add prod
              raftctl -e \"$RAFTCTL_ENDPOINTS\" context add stage
              raftctl -c prod dump app/ | sed 's/^app\\//stage\\//' | raftctl -c stage load",
    );
    assert_eq!(
        me.types("raftctl scan stage/"),
        "stage/a\tchanged\nstage/b\ttwo words\n"
    );
    assert_eq!(
        me.types(
            "paste -d'\\t' <(raftctl -c prod scan app/) <(raftctl -c stage scan stage/) | cut -f1,3"
        ),
        "app/a\tstage/a\napp/b\tstage/b\n"
    );

    me.types("raftctl put app/long \"$(printf '%2000s' x)\"");
    let long = me.types("raftctl scan --json app/ | jq -r 'select(.value|length>1000).key'");
    assert_eq!(long, "app/long\n");
}

#[test]
fn tables_of_others_and_rejects() {
    let me = Person::new();
    me.types("printf 'ann,1\\nbob,2\\n' > users.csv");
    me.types(
        "awk -F, '{print $1\"\\t\"$2}' users.csv | raftctl load --rejects bad.tsv --checkpoint load.ck",
    );
    assert_eq!(me.types("raftctl scan"), "ann\t1\nbob\t2\n");
    // What cannot be taken is kept as it came, and can be mended and loaded again.
    let done = me.tries(
        "printf 'cid\\t3\\nno value\\ndan\\t4\\n' | raftctl load --on-error skip --rejects bad.tsv",
    );
    assert_eq!(done.code, Some(8), "{done:?}");
    assert_eq!(
        me.types("raftctl scan | cut -f1 | paste -sd,"),
        "ann,bob,cid,dan\n"
    );
    me.types("sed 's/no value/eve\\t5/' bad.tsv | raftctl load");
    assert_eq!(me.types("raftctl get eve"), "5");
}

#[test]
fn folders_and_keys_of_any_name() {
    let me = Person::new();
    me.types(
        "mkdir -p 'site/a b' && printf one > site/index.html && printf 'two\\n' > 'site/a b/x'",
    );
    me.types(
        "cd site && find . -type f -print0 | raftctl put --stdin -0 --from-files --prefix site/",
    );
    assert_eq!(me.types("raftctl count site/"), "2\n");
    assert_eq!(me.types("raftctl get site/./index.html"), "one");
    assert_eq!(me.types("raftctl get 'site/./a b/x'"), "two\n");
    me.types("for k in 'a b' $'new\\nline' -x plain; do raftctl put -- \"tmp/$k\" v; done");
    me.types("raftctl scan --keys -0 tmp/ | xargs -0 -r -n500 raftctl del --");
    assert_eq!(me.types("raftctl count tmp/"), "0\n");
}

#[test]
fn numbers_that_nobody_loses() {
    let me = Person::new();
    let script = "n=$(raftctl incr ticket/next) && raftctl put \"ticket/$n\" \"$TITLE\"";
    me.types(&format!("TITLE=first; {script}; TITLE=second; {script}"));
    assert_eq!(
        me.types("raftctl scan ticket/"),
        "ticket/1\tfirst\nticket/2\tsecond\nticket/next\t2\n"
    );
    // Eight at once count down from eight: nobody's step is lost.
    let left = me.types(
        "raftctl put quota/left 8
         take() {
             while v=$(raftctl get quota/left); do
                 raftctl cas quota/left --expect \"$v\" \"$((v-1))\"
                 [ $? = 1 ] || break
             done
         }
         for _ in 1 2 3 4 5 6 7 8; do take & done; wait
         raftctl get quota/left",
    );
    assert_eq!(left, "0");
}

#[test]
fn a_backup_and_a_look_at_the_cluster() {
    let me = Person::new();
    me.types("raftctl put k v");
    // gzip where others have zstd, a file where others have another machine.
    me.types(
        "backup() { sh -c \"$1\"; }
              raftctl snapshot save - | gzip | backup 'cat > raft-$(date +%F).gz'
              zcat raft-*.gz | raftctl snapshot verify -",
    );
    let seen = me.types("zcat raft-*.gz | raftctl snapshot inspect - --json | jq .entries");
    assert_eq!(seen, "1\n");
    let names = me.types("for p in $(raftctl peers --value --field name); do echo \"<$p>\"; done");
    assert_eq!(names, "<n1>\n<n2>\n<n3>\n");
    let health = "raftctl status --json |
        jq -e '.quorum_ok and (.members|all(.lag_entries|tonumber<1000))' || echo page-me";
    assert_eq!(me.types(health), "true\n");
}

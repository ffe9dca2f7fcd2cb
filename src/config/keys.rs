//! Every key that a configuration may have, section by section. Durations are whole milliseconds, as in the model
//! product, or text with a unit.

/// One kind of section.
#[derive(Debug)]
pub(super) struct Keys {
    /// As operators write it.
    pub title: &'static str,
    /// What may stand in it, dotted.
    pub known: &'static [&'static str],
    /// What operators bring along and what cannot be taken over: the key (`x` also stands for `x.1`), why, and the cure.
    pub refused: &'static [(&'static str, &'static str, &'static str)],
}

pub(super) const CLUSTER: Keys = Keys {
    title: "[cluster]",
    known: &[
        "name",
        "ha-mode",
        "mymemberid",
        "member",
        "members",
        "virtual-ip",
        "virtual-ip-in-via",
        "service-ip",
        "secret-file",
        "state-dir",
        "reference-points",
        "partition",
        "witness",
        "floor",
        "cold-reserve",
        "peer-tls",
        "commit",
        "commit-timeout",
        "beat-interval",
        "suspicion-timeout",
        "guard-limit",
        "boot-hold",
        "priority",
        "preempt",
        "vip-manager",
        "failover-script",
        "failover-script-timeout",
    ],
    refused: &[
        (
            "heartbeatinterval",
            "would make a takeover last seconds: the model's beats are 2000 ms apart, ours 20 ms",
            "remove it; if you must, tune `beat-interval`",
        ),
        (
            "electiontimer",
            "has no counterpart: two nodes with epochs need no election, and silence is judged after 150 ms",
            "remove it; if you must, tune `suspicion-timeout`",
        ),
        ("hotstandby", "has no counterpart: a standby is always hot", "remove it"),
        (
            "secret",
            "must not stand in a file that everybody may read",
            "name a file of its own in `secret-file`, or set TANDEM_CLUSTER_SECRET",
        ),
    ],
};

pub(super) const PROXY: Keys = Keys {
    title: "[proxy]",
    known: &[
        "sip.transport",
        "sip.allow-from",
        "sip.proxy-protocol-from",
        "sip.threadpoolsize",
        "sip.timer.t1",
        "sip.timer.t2",
        "sip.timer.t4",
        "sip.timer.c",
        "sip.retried-invite",
        "inactivity-lease",
        "drain-timeout",
        "server-header",
    ],
    refused: &[],
};

pub(super) const ADMIN: Keys = Keys { title: "[admin]", known: &["listen", "drill"], refused: &[] };

pub(super) const TLS: Keys = Keys {
    title: "[tls]",
    known: &["certificate", "key", "trusted-ca", "client-certificate", "peer-names"],
    refused: &[],
};

pub(super) const LOG: Keys = Keys { title: "[log]", known: &["level"], refused: &[] };

pub(super) const SNMP: Keys = Keys {
    title: "[snmp]",
    known: &["trap-target", "version", "community", "enterprise"],
    refused: &[("timeout", "belongs to a sub-agent, which Tandem has not: it only sends traps", "remove it")],
};
pub(super) const GROUP: Keys = Keys {
    title: "[[resource-group]]",
    known: &[
        "name",
        "service-types",
        "load-balance-scheme",
        "monitor-method",
        "monitor-interval",
        "monitor-timeout",
        "monitor-down-after",
        "monitor-up-after",
        "noresource-response-code",
        "first-response-timeout",
        "retry-codes",
        "pin-by",
        "resource",
    ],
    refused: &[],
};

pub(super) const RESOURCE: Keys =
    Keys { title: "[[resource-group.resource]]", known: &["aor", "port-capacity", "aliases", "tcp"], refused: &[] };

/// All of them: where a misplaced key is looked for.
pub(super) const ALL: &[&Keys] = &[&CLUSTER, &PROXY, &TLS, &ADMIN, &LOG, &SNMP, &GROUP, &RESOURCE];

/// Words that operators bring along, and what they are called here.
pub(super) const SYNONYMS: &[(&str, &str)] = &[
    ("workers", "sip.threadpoolsize"),
    ("threads", "sip.threadpoolsize"),
    ("transport", "sip.transport"),
    ("listen", "sip.transport"),
    ("t1", "sip.timer.t1"),
    ("t2", "sip.timer.t2"),
    ("t4", "sip.timer.t4"),
    ("sip.t1", "sip.timer.t1"),
    ("sip.t2", "sip.timer.t2"),
    ("sip.t4", "sip.timer.t4"),
    ("timer-c", "sip.timer.c"),
    ("sip.timer-c", "sip.timer.c"),
    ("sip.timer.ci_proceeding", "sip.timer.c"),
    ("inactivity", "inactivity-lease"),
    ("server", "server-header"),
    ("node-id", "mymemberid"),
    ("id", "mymemberid"),
    ("vip", "virtual-ip"),
    ("peer", "member"),
    ("script", "failover-script"),
    ("verbose", "level"),
    ("target", "trap-target"),
    ("enterprise-oid", "enterprise"),
    ("cert", "certificate"),
    ("private-key", "key"),
    ("cafile", "trusted-ca"),
    ("ca", "trusted-ca"),
    ("verifypeer", "client-certificate"),
    ("mutual", "client-certificate"),
    ("names", "peer-names"),
    ("probe-interval", "monitor-interval"),
    ("probe-timeout", "monitor-timeout"),
    ("down-after", "monitor-down-after"),
    ("up-after", "monitor-up-after"),
    ("scheme", "load-balance-scheme"),
    ("pin", "pin-by"),
    ("sticky", "pin-by"),
    ("services", "service-types"),
    ("uri", "aor"),
    ("address", "aor"),
    ("capacity", "port-capacity"),
    ("ports", "port-capacity"),
];

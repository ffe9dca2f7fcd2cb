//! Every key that a configuration may have, section by section. Durations are whole milliseconds, as in the model
//! product, or text with a unit.

/// One kind of section.
#[derive(Debug)]
pub(super) struct Keys {
    /// As operators write it.
    pub title: &'static str,
    /// What may stand in it, dotted.
    pub known: &'static [&'static str],
    /// What only a pair understands; `x` also stands for `x.1`.
    pub pair: &'static [&'static str],
}

pub(super) const CLUSTER: Keys = Keys {
    title: "[cluster]",
    known: &["name", "ha-mode", "mymemberid", "secret-file", "state-dir"],
    pair: &[
        "boot-hold",
        "cold-reserve",
        "commit",
        "commit-timeout",
        "floor",
        "member",
        "members",
        "partition",
        "reference-points",
        "service-ip",
        "virtual-ip",
        "virtual-ip-in-via",
        "vip-manager",
    ],
};

pub(super) const PROXY: Keys = Keys {
    title: "[proxy]",
    known: &[
        "sip.transport",
        "sip.allow-from",
        "sip.threadpoolsize",
        "sip.timer.t1",
        "sip.timer.t2",
        "sip.timer.t4",
        "sip.timer.c",
        "inactivity-lease",
        "drain-timeout",
        "server-header",
    ],
    pair: &[],
};

pub(super) const ADMIN: Keys = Keys { title: "[admin]", known: &["listen"], pair: &[] };

pub(super) const LOG: Keys = Keys { title: "[log]", known: &["level"], pair: &[] };

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
        "resource",
    ],
    pair: &[],
};

pub(super) const RESOURCE: Keys =
    Keys { title: "[[resource-group.resource]]", known: &["aor", "port-capacity", "aliases", "tcp"], pair: &[] };

/// All of them: where a misplaced key is looked for.
pub(super) const ALL: &[&Keys] = &[&CLUSTER, &PROXY, &ADMIN, &LOG, &GROUP, &RESOURCE];

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
    ("secret", "secret-file"),
    ("verbose", "level"),
    ("probe-interval", "monitor-interval"),
    ("probe-timeout", "monitor-timeout"),
    ("down-after", "monitor-down-after"),
    ("up-after", "monitor-up-after"),
    ("scheme", "load-balance-scheme"),
    ("services", "service-types"),
    ("uri", "aor"),
    ("address", "aor"),
    ("capacity", "port-capacity"),
    ("ports", "port-capacity"),
];

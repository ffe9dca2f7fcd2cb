//! Sans-IO SIP caller and media server: demo, simulator, tests.

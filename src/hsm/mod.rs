//! Tokens behind PKCS#11 modules, each module in a child process of its own. The only user of cryptoki.

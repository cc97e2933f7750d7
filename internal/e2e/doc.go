// Package e2e tests Whale as users meet it: the built program, three real processes, Redis clients on their sockets.
//
// Everything is seen from outside. The tests know the commands, the flags of `whale dev`, the files of a data folder and
// /proc; they share no code with what they check, the reply reader excepted.
//
// WHALE_E2E=long runs more rounds. WHALE_E2E_FABRIC=tcp connects the nodes over TCP. WHALE_E2E_ADDRS=host:port,host:port,host:port runs those tests that need no processes
// of their own against servers that are there already, so that a test can be tried on a server that is known to be right,
// or known to be wrong.
package e2e

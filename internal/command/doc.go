// Package command is the Redis commands: what each is called, how many arguments it takes, where it may run, and what it
// does, as a function over a transaction on the store.
//
// A command is one entry in the table of its group's file and one function, from [Ctx] to a reply. It sees the store as a
// [Tx] and the node as a [Server]; it knows no socket and no goroutine. Replies, error texts and edge cases
// are those of Redis [RedisVersion] unless said otherwise; the tests run both side by side.
package command

// RedisVersion is the version of Redis whose behaviour is followed. HELLO and INFO report it, because clients choose by
// it what they may send.
const RedisVersion = "7.0.15"

// Package resp is the Redis serialization protocol, versions 2 and 3: a codec without connections.
//
// [Parser] takes commands out of a buffer that a server fills, [Writer] appends replies to one that it sends;
// [AppendCommand], [SkipReply], [ParseReply] and [ReplyReader] are the client's side. Everything works on byte slices of
// the caller, and nothing allocates for a command or a reply of ordinary shape.
//
// The source is the protocol specification at redis.io/docs/reference/protocol-spec; what it leaves open (error texts,
// limits, the quoting of inline commands) is as in Redis 7.0.
//
// No value of this package may be used by two goroutines at the same time.
package resp

package command

import "whale/internal/resp"

var objectCommands = []*Command{
	container("object", "generic", "2.2.3", "Commands about the inside of values",
		objectSub("idletime", "2.2.3", "Would return how long a key was not used, which is not recorded", func(c *Ctx, _ []byte) {
			c.W.Error("ERR idle time is not tracked: reads leave no trace on this server")
		}),
		objectSub("encoding", "2.2.3", "Returns the encoding that Redis would choose for a value", func(c *Ctx, value []byte) { c.W.BulkString(encoding(value)) }),
		objectSub("freq", "4.0.0", "Would return how often a key was used, which is not recorded", func(c *Ctx, _ []byte) {
			c.W.Error("ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.")
		}),
		objectSub("refcount", "2.2.3", "Returns how many keys share a value: always 1", func(c *Ctx, _ []byte) { c.W.Int(1) }),
		sub(subKind{words("loading stale"), words("@keyspace @slow")}, "object|help", 2, "6.2.0", "Lists the subcommands", help),
	),
}

// objectSub is a subcommand that asks about one key's value; an absent key is answered by null.
func objectSub(name, since, summary string, answer func(c *Ctx, value []byte)) *Command {
	return &Command{Name: "object|" + name, Arity: 3, Place: Read,
		Run: func(c *Ctx) {
			if value, found := c.Tx.Get(c.Args[2]); found {
				answer(c, value)
			} else {
				c.W.Null()
			}
		},
		Flags: words("readonly"), FirstKey: 2, LastKey: 2, Step: 1, KeyFlags: words("RO"), Categories: words("@keyspace @read @slow"),
		Tips: words("nondeterministic_output"), Since: since, Summary: summary, Complexity: "O(1)"}
}

// encoding is what Redis would store a new value as. Values have no encodings here.
func encoding(value []byte) string {
	if _, isInt := resp.ParseInt(value); isInt {
		return "int"
	}
	if len(value) <= 44 {
		return "embstr"
	}
	return "raw"
}

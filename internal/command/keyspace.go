package command

var keyspaceCommands = []*Command{
	{Name: "exists", Arity: -2, Place: Read, Run: exists,
		Flags: words("readonly fast"), FirstKey: 1, LastKey: -1, Step: 1, KeyFlags: words("RO"), Categories: words("@keyspace @read @fast"),
		Tips:  words("request_policy:multi_shard response_policy:agg_sum"),
		Group: "generic", Since: "1.0.0", Summary: "Counts how many of the named keys exist", Complexity: "O(N), N the number of keys"},
	{Name: "del", Arity: -2, Place: Write, Run: del,
		Flags: words("write"), FirstKey: 1, LastKey: -1, Step: 1, KeyFlags: words("RM delete"), Categories: words("@keyspace @write @slow"),
		Tips:  words("request_policy:multi_shard response_policy:agg_sum"),
		Group: "generic", Since: "1.0.0", Summary: "Deletes keys", Complexity: "O(N), N the number of keys"},
	{Name: "unlink", Arity: -2, Place: Write, Run: del,
		Flags: words("write fast"), FirstKey: 1, LastKey: -1, Step: 1, KeyFlags: words("RM delete"), Categories: words("@keyspace @write @fast"),
		Tips:  words("request_policy:multi_shard response_policy:agg_sum"),
		Group: "generic", Since: "4.0.0", Summary: "Deletes keys, the same as DEL", Complexity: "O(N), N the number of keys"},
	{Name: "dbsize", Arity: 1, Place: Primary, Run: dbsize,
		Flags: words("readonly fast"), Categories: words("@keyspace @read @fast"),
		Tips:  words("request_policy:all_shards response_policy:agg_sum"),
		Group: "server", Since: "1.0.0", Summary: "Returns the number of keys", Complexity: "O(1)"},
	{Name: "flushall", Arity: -1, Place: Write, Run: flush,
		Flags: words("write"), Categories: words("@keyspace @write @slow @dangerous"),
		Tips:  words("request_policy:all_shards response_policy:all_succeeded"),
		Group: "server", Since: "1.0.0", Summary: "Deletes every key", Complexity: "O(1); memory is swept later, in small steps"},
	{Name: "flushdb", Arity: -1, Place: Write, Run: flush,
		Flags: words("write"), Categories: words("@keyspace @write @slow @dangerous"),
		Tips:  words("request_policy:all_shards response_policy:all_succeeded"),
		Group: "server", Since: "1.0.0", Summary: "Deletes every key of the database; there is one, so the same as FLUSHALL", Complexity: "O(1); memory is swept later, in small steps"},
}

// exists counts a key as often as it is named.
func exists(c *Ctx) {
	n := int64(0)
	for _, key := range c.Args[1:] {
		if _, ok := c.Tx.Get(key); ok {
			n++
		}
	}
	c.W.Int(n)
}

func del(c *Ctx) {
	n := int64(0)
	for _, key := range c.Args[1:] {
		if c.Tx.Del(key) {
			n++
		}
	}
	c.W.Int(n)
}

func dbsize(c *Ctx) { c.W.Int(int64(c.Tx.Len())) }

// flush takes SYNC and ASYNC and does the same for both: one record in the log.
func flush(c *Ctx) {
	if len(c.Args) > 2 || len(c.Args) == 2 && !c.is(1, "sync") && !c.is(1, "async") {
		c.W.Error(errSyntax)
		return
	}
	c.Tx.FlushAll()
	c.W.OK()
}

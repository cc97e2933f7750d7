package command

import (
	"bytes"
	"math/rand/v2"
	"strconv"

	"whale/internal/resp"
)

var scanCommands = []*Command{
	{Name: "keys", Arity: 2, Place: Primary, Run: keys,
		Flags: words("readonly"), Categories: words("@keyspace @read @slow @dangerous"),
		Tips:  words("request_policy:all_shards nondeterministic_output_order"),
		Group: "generic", Since: "1.0.0", Summary: "Returns all keys that match a pattern, of one moment", Complexity: "O(N), N the number of keys; other commands at the primary that do not only read one key wait"},
	{Name: "scan", Arity: -2, Place: Primary, Run: scan,
		Flags: words("readonly"), Categories: words("@keyspace @read @slow"),
		Tips:  words("nondeterministic_output request_policy:special"),
		Group: "generic", Since: "2.8.0", Summary: "Returns some keys and where to go on", Complexity: "O(1) a call, O(N) for all N keys"},
	{Name: "randomkey", Arity: 1, Place: Primary, Run: randomkey,
		Flags: words("readonly"), Categories: words("@keyspace @read @slow"),
		Tips:  words("request_policy:all_shards nondeterministic_output"),
		Group: "generic", Since: "1.0.0", Summary: "Returns some key", Complexity: "O(1), unless there were once many more keys than now"},
}

// Walk is the state of a command that takes several runs, so that none takes long: when More is set, Run has to be called
// again with the same arguments, reply and Walk, and nothing may have been written meanwhile.
type Walk struct {
	More   bool
	cursor uint64
	mark   int // where the reply begins
	found  int
}

// keysAtOnce is when a run of KEYS ends: a key that was visited counts 1, and each bucket of the index as much as some keys.
// It is a fraction of a millisecond, as those who serve clients make several runs before they look at their sockets.
const (
	keysAtOnce = 500
	bucketWork = 8
)

// keys collects the replies and puts their number in front when it is known.
func keys(c *Ctx) {
	w := &c.Walk
	if !w.More {
		*w = Walk{More: true, mark: len(c.W.Buf)}
	}
	pattern := c.Args[1]
	for work := 0; work < keysAtOnce; work += bucketWork {
		w.cursor = c.Tx.Scan(w.cursor, func(key []byte) {
			work++
			if match(pattern, key) {
				c.W.Bulk(key)
				w.found++
			}
		})
		if w.cursor == 0 {
			break
		}
	}
	if w.cursor != 0 {
		return
	}
	end := len(c.W.Buf)
	c.W.Array(w.found)
	header := bytes.Clone(c.W.Buf[end:])
	copy(c.W.Buf[w.mark+len(header):], c.W.Buf[w.mark:end])
	copy(c.W.Buf[w.mark:], header)
	w.More = false
}

// scan shows the upper half of the store's cursors: the lower is 0, and small numbers are safe in all clients.
func scan(c *Ctx) {
	cursor, err := strconv.ParseUint(string(c.Args[1]), 10, 64)
	if err != nil {
		c.W.Error("ERR invalid cursor")
		return
	}
	var pattern []byte
	count, strings := int64(10), true
	for i := 2; i < len(c.Args); i += 2 {
		last := i+1 == len(c.Args)
		switch {
		case c.is(i, "count") && !last:
			var ok bool
			if count, ok = resp.ParseInt(c.Args[i+1]); !ok {
				c.W.Error(errNotInteger)
				return
			}
			if count < 1 {
				c.W.Error(errSyntax)
				return
			}
		case c.is(i, "match") && !last:
			pattern = c.Args[i+1]
		case c.is(i, "type") && !last:
			strings = c.is(i+1, "string") // there are no keys of other types
		default:
			c.W.Error(errSyntax)
			return
		}
	}
	var found [][]byte
	visited := int64(0)
	cursor <<= 32
	for range min(count, maxScan) {
		cursor = c.Tx.Scan(cursor, func(key []byte) {
			visited++
			if strings && (pattern == nil || match(pattern, key)) {
				found = append(found, key)
			}
		})
		if cursor == 0 || visited >= min(count, maxScan) {
			break
		}
	}
	c.W.Array(2)
	c.W.BulkString(strconv.FormatUint(cursor>>32, 10))
	c.W.Array(len(found))
	for _, key := range found {
		c.W.Bulk(key)
	}
}

// maxScan bounds the keys that one SCAN visits, however many it is asked for, and the buckets without any.
const maxScan = 10_000

// randomkey takes one of the keys behind a random place.
func randomkey(c *Ctx) {
	start := uint64(rand.Uint32()) << 32
	var chosen []byte
	n := 0
	visit := func(key []byte) {
		n++
		if rand.IntN(n) == 0 {
			chosen = key
		}
	}
	cursor := start
	for wrapped := false; n == 0 && !(wrapped && cursor > start); {
		cursor = c.Tx.Scan(cursor, visit)
		if cursor == 0 {
			if wrapped {
				break
			}
			wrapped = true
		}
	}
	c.bulkOrNull(chosen, n > 0)
}

package command

import (
	"iter"
	"math"

	"whale/internal/resp"
)

// Tx is what a command sees of the store: one atomic step over any number of keys. At the primary it is a transaction on
// the newest version of everything; elsewhere a read-only view, whose writing methods are never called because commands
// of place [Write] do not run there.
type Tx interface {
	// Get returns the value of key, this transaction's own writes included. The value is valid until the commit.
	Get(key []byte) (value []byte, ok bool)
	// Deadline is when the key expires, in unix ms; 0: never. False: there is no such key.
	Deadline(key []byte) (at int64, ok bool)
	// Set writes; the key does not expire. Both slices have to stay as they are until the commit.
	Set(key, value []byte)
	// SetUntil is Set of a key that expires at deadline, in unix ms; 0: never.
	SetUntil(key, value []byte, deadline int64)
	// Del removes key and says whether it was there.
	Del(key []byte) bool
	// FlushAll removes every key.
	FlushAll()
	// Len is the number of keys. It, Scan and Stamp are for commands that run at the primary.
	Len() int
	// Scan visits the keys at cursor, at first 0, and returns the cursor behind them, 0 after the last. A key that is there
	// from the first call to the last is visited once, whatever happens in between. The lower 32 bits of a cursor are 0.
	Scan(cursor uint64, visit func(key []byte)) (next uint64)
	// Stamp names the state after this transaction, for WATCH.
	Stamp() uint64
}

// Server is what a command asks of the node that it runs on. Its methods may be called from any goroutine.
type Server interface {
	// Now is the wall clock, in milliseconds since 1970.
	Now() int64
	// RoleName is "master" at the primary and "replica" at the others, for HELLO.
	RoleName() string
	// Role appends the whole reply of ROLE.
	Role(w *resp.Writer)
	// Info appends the fields of one section of INFO, a "name:value\r\n" each; section is one of [Sections].
	Info(dst []byte, section string) []byte
	// Clients are the connections of this node, for CLIENT LIST.
	Clients() iter.Seq[*Client]
	// Kill closes a connection, now or soon.
	Kill(c *Client)
	// Pause holds back commands of this node's clients for so many milliseconds from now: all of them, or those that write.
	// 0: no longer.
	Pause(ms int64, all bool)
	// Unblock ends the WAIT of a connection, as if its time had passed or with an error. False: it did not wait.
	Unblock(c *Client, withError bool) bool
	// Monitor follows a change of [Client.Monitoring].
	Monitor(c *Client)
	// Params are the settings.
	Params() *Params
	// Notes are the slow log and what else is kept about commands.
	Notes() *Notes
	// ResetStats sets counters to zero.
	ResetStats()
}

// Wait is what WAIT asks for. The command only checks its arguments; whoever ran it waits, and writes the reply: the
// number of members that hold the connection's last write durably.
type Wait struct {
	Asked    bool
	Replicas int64
	Timeout  int64 // milliseconds from now; 0: for ever
}

// Ctx is one command's run. Its owner sets the exported fields, calls Run and, when what the command wrote is committed,
// Reset; one Ctx serves any number of commands, one after the other.
type Ctx struct {
	Args   [][]byte // with the command's name first; checked by [Check]
	Tx     Tx       // nil for commands of place Here
	W      *resp.Writer
	Client *Client
	Server Server
	Wait   Wait // out
	Walk   Walk // in and out

	scratch []byte
}

const (
	minScratch  = 4 << 10
	keptScratch = 1 << 20 // a larger block is given back, so that one huge APPEND does not hold memory for ever
)

// Scratch is n bytes for a value that a command computes; their contents are undefined. All of them stay valid until Reset.
func (c *Ctx) Scratch(n int) []byte {
	used := len(c.scratch)
	if cap(c.scratch)-used < n {
		// What was handed out before keeps the old block alive.
		c.scratch = make([]byte, 0, max(n, min(2*cap(c.scratch), keptScratch), minScratch))
		used = 0
	}
	c.scratch = c.scratch[:used+n]
	return c.scratch[used : used+n : used+n]
}

// Reset ends the life of everything that Scratch returned, and clears Wait and Walk.
func (c *Ctx) Reset() {
	c.Wait = Wait{}
	c.Walk = Walk{}
	if cap(c.scratch) > keptScratch {
		c.scratch = nil
	}
	c.scratch = c.scratch[:0]
}

const (
	errSyntax     = "ERR syntax error"
	errNotInteger = "ERR value is not an integer or out of range"
)

// integer reads argument i; where it is none, it answers with the error.
func (c *Ctx) integer(i int) (v int64, ok bool) {
	if v, ok = resp.ParseInt(c.Args[i]); !ok {
		c.W.Error(errNotInteger)
	}
	return v, ok
}

// bulkOrNull answers with a value that may be absent.
func (c *Ctx) bulkOrNull(value []byte, ok bool) {
	if ok {
		c.W.Bulk(value)
	} else {
		c.W.Null()
	}
}

func (c *Ctx) bit(b bool) {
	if b {
		c.W.Int(1)
	} else {
		c.W.Int(0)
	}
}

// is says whether argument i is the given word, which is in lower case.
func (c *Ctx) is(i int, word string) bool { return equalFold(c.Args[i], word) }

// equalFold compares b with a word in lower case. Only ASCII letters have a case here.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if toLower(c) != lower[i] {
			return false
		}
	}
	return true
}

func toLower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// addOverflows says whether a + b does not fit.
func addOverflows(a, b int64) bool {
	return b > 0 && a > math.MaxInt64-b || b < 0 && a < math.MinInt64-b
}

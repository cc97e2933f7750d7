package command

import (
	"strconv"
	"strings"
	"sync"

	"whale/internal/resp"
)

// SlowLog is the latest commands that took long. All methods may be called from any goroutine.
type SlowLog struct {
	mu      sync.Mutex
	next    int64
	entries []slowEntry // oldest first
}

type slowEntry struct {
	id, at, took int64 // at in unix seconds, took in microseconds
	args         []byte
	addr, name   string
}

// Add notes a command: when it came (unix milliseconds), how long it took (microseconds), its arguments as [AppendMemo]
// made them. At most max entries stay.
func (l *SlowLog) Add(cl *Client, at, took int64, memo []byte, max int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, slowEntry{id: l.next, at: at / 1000, took: took, args: append([]byte(nil), memo...), addr: cl.Addr, name: cl.Name()})
	l.next++
	l.trim(max)
}

func (l *SlowLog) trim(max int64) {
	if over := int64(len(l.entries)) - max; over > 0 {
		l.entries = append(l.entries[:0], l.entries[over:]...)
	}
}

// What a memo holds, at most. The first two are Redis's; the last bounds what is copied for each command.
const (
	memoArgs   = 32
	memoArg    = 128
	memoLength = 1024
)

// AppendMemo appends arguments as the array that SLOWLOG GET shows: long ones and many are cut, and passwords are hidden.
func AppendMemo(dst []byte, cmd *Command, args [][]byte) []byte {
	shown := min(len(args), memoArgs)
	size := 0
	for i, a := range args[:shown] {
		if size += min(len(a), memoArg+40); size > memoLength && i > 0 {
			shown = i + 1
			break
		}
	}
	if shown < len(args) && shown == memoArgs || size > memoLength {
		shown-- // the last place says how many more there are
	}
	w := resp.Writer{Buf: dst}
	if shown == len(args) {
		w.Array(shown)
	} else {
		w.Array(shown + 1)
	}
	for i, a := range args[:shown] {
		switch {
		case cmd.hides(args, i):
			w.BulkString("(redacted)")
		case len(a) > memoArg:
			var cut [memoArg + 40]byte
			text := append(cut[:0], a[:memoArg]...)
			text = append(text, "... ("...)
			text = strconv.AppendInt(text, int64(len(a)-memoArg), 10)
			w.Bulk(append(text, " more bytes)"...))
		default:
			w.Bulk(a)
		}
	}
	if shown < len(args) {
		w.BulkString("... (" + strconv.Itoa(len(args)-shown) + " more arguments)")
	}
	return w.Buf
}

// hides says whether argument i is nothing for logs and monitors.
func (cmd *Command) hides(args [][]byte, i int) bool {
	switch cmd.Top() {
	case "auth":
		return i > 0
	case "hello":
		return i > 2 && equalFold(args[i-1], "auth") || i > 3 && equalFold(args[i-2], "auth")
	case "config":
		return i > 2 && equalFold(args[1], "set") && equalFold(args[i-1], "requirepass")
	}
	return false
}

var slowlogCommands = []*Command{container("slowlog", "server", "2.2.12", "Commands about the slow log of this node",
	tips(sub(slowSub, "slowlog|get", -2, "2.2.12", "Returns the latest entries: number, time, microseconds from arrival to reply, arguments, client", slowlogGet),
		"request_policy:all_nodes nondeterministic_output"),
	tips(sub(slowSub, "slowlog|len", 2, "2.2.12", "Returns the number of entries", slowlogLen),
		"request_policy:all_nodes response_policy:agg_sum nondeterministic_output"),
	tips(sub(slowSub, "slowlog|reset", 2, "2.2.12", "Removes all entries", slowlogReset),
		"request_policy:all_nodes response_policy:all_succeeded"),
	sub(helpSub, "slowlog|help", 2, "6.2.0", "Lists the subcommands", help),
)}

func slowlogGet(c *Ctx) {
	n := int64(10)
	if len(c.Args) > 3 {
		c.W.Error(subSyntax(c))
		return
	}
	if len(c.Args) == 3 {
		var ok bool
		if n, ok = resp.ParseInt(c.Args[2]); !ok || n < -1 {
			c.W.Error("ERR count should be greater than or equal to -1")
			return
		}
	}
	l := &c.Server.Notes().Slow
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trim(c.Server.Params().slowMax.Load())
	if n < 0 || n > int64(len(l.entries)) {
		n = int64(len(l.entries))
	}
	c.W.Array(int(n))
	for i := range int(n) {
		e := &l.entries[len(l.entries)-1-i]
		c.W.Array(6)
		c.W.Int(e.id)
		c.W.Int(e.at)
		c.W.Int(e.took)
		c.W.Raw(e.args)
		c.W.BulkString(e.addr)
		c.W.BulkString(e.name)
	}
}

func slowlogLen(c *Ctx) {
	l := &c.Server.Notes().Slow
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trim(c.Server.Params().slowMax.Load())
	c.W.Int(int64(len(l.entries)))
}

func slowlogReset(c *Ctx) {
	l := &c.Server.Notes().Slow
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = nil
	c.W.OK()
}

// subSyntax is what Redis says where the number of a subcommand's arguments is not in its table entry.
func subSyntax(c *Ctx) string {
	return "ERR unknown subcommand or wrong number of arguments for '" + cString(c.Args[1], 128) + "'. Try " + strings.ToUpper(Lookup(c.Args[0]).Name) + " HELP."
}

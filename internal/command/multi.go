package command

import (
	"slices"
	"strings"

	"whale/internal/resp"
)

var multiCommands = []*Command{
	{Name: "multi", Arity: 1, Place: Here, Run: multi,
		Flags: words("noscript loading stale fast allow_busy"), Categories: words("@fast @transaction"),
		Group: "transactions", Since: "1.2.0", Summary: "Begins a transaction: the commands that follow are queued", Complexity: "O(1)"},
	{Name: "exec", Arity: 1, Place: Transact, Run: execMulti,
		Flags: words("noscript loading stale skip_slowlog"), Categories: words("@slow @transaction"),
		Group: "transactions", Since: "1.2.0", Summary: "Runs the queued commands at once, unless a watched key has changed", Complexity: "That of the commands"},
	{Name: "discard", Arity: 1, Place: Here, Run: discardMulti,
		Flags: words("noscript loading stale fast allow_busy"), Categories: words("@fast @transaction"),
		Group: "transactions", Since: "2.0.0", Summary: "Forgets the queued commands and the watched keys", Complexity: "O(1)"},
	{Name: "watch", Arity: -2, Place: Transact, Run: watch,
		Flags: words("noscript loading stale fast allow_busy"), FirstKey: 1, LastKey: -1, Step: 1, KeyFlags: words("RO"), Categories: words("@fast @transaction"),
		Group: "transactions", Since: "2.2.0", Summary: "Lets the next EXEC run only if none of the keys changes until then", Complexity: "O(N), N the number of keys"},
	{Name: "unwatch", Arity: 1, Place: Here, Run: unwatch,
		Flags: words("noscript loading stale fast allow_busy"), Categories: words("@fast @transaction"),
		Group: "transactions", Since: "2.2.0", Summary: "Forgets the watched keys", Complexity: "O(1)"},
}

// Transaction is what a connection queues between MULTI and EXEC. Queued commands are copies.
type Transaction struct {
	Calls   []Call
	Watched []*Watch

	failed bool // a command was refused: EXEC will be, too
	bytes  int
	notes  traits
}

// traits are what some of the commands are.
type traits struct{ here, primary, write bool }

// Call is one queued command, which [Check] has let pass.
type Call struct {
	Cmd  *Command
	Args [][]byte
}

// Watch is what one WATCH was given.
type Watch struct {
	Keys [][]byte
	// Stamp names the state that the keys were seen in ([Tx].Stamp), once WATCH is answered.
	Stamp uint64
}

// MaxTransaction is how many bytes of arguments a connection may queue.
const MaxTransaction = 32 << 20

// Add appends a command. The arguments are not copied.
func (t *Transaction) Add(call Call) {
	t.Calls = append(t.Calls, call)
	t.notes.here = t.notes.here || call.Here()
	t.notes.primary = t.notes.primary || call.Cmd.Place == Primary
	t.notes.write = t.notes.write || call.Cmd.Place == Write
}

// Here says whether the command is run by the node that the client is connected to, beside the transaction on the store:
// it needs no data, so that nobody can tell. WAIT is run where the others are.
func (c *Call) Here() bool { return c.Cmd.Place == Here && c.Cmd.Name != "wait" }

// Mixed says whether some of the commands are run here.
func (t *Transaction) Mixed() bool { return t.notes.here }

// Primary says whether some command has this place.
func (t *Transaction) Primary() bool { return t.notes.primary }

// Remote counts the commands that are not run here.
func (t *Transaction) Remote() (n int) {
	for i := range t.Calls {
		if !t.Calls[i].Here() {
			n++
		}
	}
	return n
}

func multi(c *Ctx) {
	if c.Client.multi != nil {
		c.W.Error("ERR MULTI calls can not be nested")
		return
	}
	c.Client.multi = &Transaction{}
	c.W.OK()
}

func discardMulti(c *Ctx) {
	if c.Client.multi == nil {
		c.W.Error("ERR DISCARD without MULTI")
		return
	}
	c.Client.forget()
	c.W.OK()
}

func unwatch(c *Ctx) {
	c.Client.watched = nil
	c.W.OK()
}

// watch answers with the stamp, which the client's node keeps. An expired key goes first, so that it counts as absent.
func watch(c *Ctx) {
	for _, key := range c.Args[1:] {
		c.Tx.Get(key)
	}
	c.W.Int(int64(c.Tx.Stamp()))
}

// execMulti is never run: whoever executes commands runs those of the [Transaction] instead.
func execMulti(c *Ctx) { c.W.Error(errNoMulti) }

const errNoMulti = "ERR EXEC without MULTI"

// forget ends the transaction and the watching.
func (c *Client) forget() { c.multi, c.watched = nil, nil }

// InMulti says whether a transaction is open.
func (c *Client) InMulti() bool { return c.multi != nil }

// Refused notes that a command is answered with an error before it is run; cmd is nil for one that there is not. It returns
// the error, which is another one for EXEC.
func (c *Client) Refused(cmd *Command, errText string) string {
	if cmd != nil && cmd.Name == "exec" {
		c.forget()
		return "EXECABORT Transaction discarded because of: " + strings.TrimPrefix(errText, "ERR ")
	}
	if c.multi != nil {
		c.multi.failed = true
	}
	return errText
}

// WritesOnExec says whether EXEC would run commands that write.
func (c *Client) WritesOnExec() bool { return c.multi != nil && c.multi.notes.write }

// Queue takes a command that [Check] has let pass into the client's open transaction and answers QUEUED, or says why it
// cannot. False: there is no transaction, or the command is run at once all the same. args are copied.
func (c *Client) Queue(cmd *Command, args [][]byte, w func() *resp.Writer) bool {
	t := c.multi
	if t == nil {
		return false
	}
	switch cmd.Name {
	case "multi", "exec", "discard", "quit", "reset":
		return false
	case "watch":
		w().Error("ERR WATCH inside MULTI is not allowed")
		return true
	case "hello", "monitor", "client|reply":
		t.failed = true
		w().Error("ERR Command not allowed inside a transaction")
		return true
	}
	size := 0
	for _, a := range args {
		size += len(a) + 16
	}
	if t.bytes += size; t.bytes > MaxTransaction {
		t.failed, t.Calls = true, nil
		w().Error("ERR the transaction is too large: the limit is 32 MiB of arguments")
		return true
	}
	t.Add(Call{cmd, copyArgs(args)})
	w().Status("QUEUED")
	return true
}

func copyArgs(args [][]byte) [][]byte {
	args = slices.Clone(args)
	size := 0
	for _, a := range args {
		size += len(a)
	}
	all := make([]byte, 0, size)
	for i, a := range args {
		from := len(all)
		all = append(all, a...)
		args[i] = all[from:len(all):len(all)]
	}
	return args
}

// Exec ends the client's transaction and returns it, or why there is nothing to run. The stamps of watched keys are there
// when all WATCH of the connection are answered.
func (c *Client) Exec() (t *Transaction, errText string) {
	t = c.multi
	if t == nil {
		return nil, errNoMulti
	}
	t.Watched = c.watched
	c.forget()
	if t.failed {
		return nil, "EXECABORT Transaction discarded because of previous errors."
	}
	return t, ""
}

// Watch notes a WATCH that is about to be run, whose answer is its Stamp. The keys are copied.
func (c *Client) Watch(keys [][]byte) *Watch {
	w := &Watch{Keys: copyArgs(keys)}
	c.watched = append(c.watched, w)
	return w
}

// Splice makes the reply of EXEC: engine is what the engine answered, an array of the replies of its commands, and here
// runs one of the others. Anything but an array is EXEC's reply as it is.
func (t *Transaction) Splice(dst *resp.Writer, engine []byte, here func(call *Call)) {
	header := slices.Index(engine, '\n') + 1
	if header == 0 || engine[0] != '*' || engine[1] == '-' {
		dst.Buf = append(dst.Buf, engine...)
		return
	}
	rest := engine[header:]
	dst.Array(len(t.Calls))
	for i := range t.Calls {
		if call := &t.Calls[i]; call.Here() {
			here(call)
		} else {
			n, _ := resp.SkipReply(rest)
			dst.Buf = append(dst.Buf, rest[:n]...)
			rest = rest[n:]
		}
	}
}

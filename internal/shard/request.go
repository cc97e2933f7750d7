package shard

import (
	"whale/internal/command"
	"whale/internal/resp"
)

// Request is one command of one client. Its submitter makes it (and pools it); between Submit and Owner.Completed it
// belongs to the engine.
type Request struct {
	Cmd    *command.Command
	Args   [][]byte // untouched by the submitter until Owner.Executed
	Client *command.Client
	// Multi is what EXEC runs; nil for all other commands. Owned by the request until it is completed.
	Multi *command.Transaction
	W     resp.Writer // the reply is appended to W.Buf; the submitter sets W.Proto
	// Behind says that an earlier request of this connection has no answer yet. A backup then forwards even a read, which
	// could otherwise overtake its own connection's write.
	Behind bool
	Owner  Owner

	ctx      command.Ctx
	view     readView
	deadline int64
	seq      uint64 // of the record that it wrote last; 0: it wrote none
	gate     uint64 // the reply leaves when S has reached this
	walk     command.Walk
	executed bool   // Owner.Executed has been called
	from     origin // a forwarded request's way back
	to       int    // the member that it was forwarded to
}

// Owner is who submitted a request. Its methods are called on the loop.
type Owner interface {
	// Executed says that Args are not needed any more. Called once, before Completed.
	Executed(*Request)
	// Completed gives the request back: the reply is complete and may be sent.
	Completed(*Request)
}

// Replies of the engine itself. They begin with a word that a client can tell apart.
const (
	errNotExecuted = "TIMEOUT not executed: the shard was not able to take the command in time (a member is gone or stuck, or the cluster is starting); try again"
	errUnknown     = "TIMEOUT outcome unknown: the command was started but not confirmed by all members in time; it may or may not take effect"
	errLost        = "TIMEOUT outcome unknown: the connection to the primary was lost after the command was forwarded to it; it may or may not take effect"
	errReadLate    = "TIMEOUT the read was not confirmed in time (the member that confirms reads is gone or stuck); try again"
	errBusy        = "BUSY too many commands are queued; try again"
	errFull        = "OOM command not allowed: the arena is full (deletes and reads go on); start the nodes with a larger --arena"
	errTooLarge    = "ERR the value is too large: a key and its value have to fit into one segment of the log"
	errGroup       = "ERR too many keys in one command: they have to fit into a quarter of the metadata ring"
	errCopies      = "NOREPLICAS Not enough good replicas to write: the cluster has fewer members than the policy wants copies; add members, or allow fewer with --min-copies"
	errForward     = "ERR the command is too large to be forwarded to the primary; send it there"
)

func (r *Request) init(deadline int64) {
	r.deadline, r.seq, r.gate, r.walk, r.executed = deadline, 0, 0, command.Walk{}, false
}

// prepare points the request's own context at its arguments, its reply and a view of the store.
func (r *Request) prepare(tx command.Tx, server command.Server) *command.Ctx {
	return point(&r.ctx, r, tx, server)
}

func point(c *command.Ctx, r *Request, tx command.Tx, server command.Server) *command.Ctx {
	c.Reset()
	c.Args, c.Tx, c.W, c.Client, c.Server = r.Args, tx, &r.W, r.Client, server
	return c
}

// free tells the owner that the arguments may go.
func (r *Request) free() {
	if !r.executed {
		r.executed = true
		r.Owner.Executed(r)
	}
}

func (r *Request) complete() {
	r.free()
	r.Owner.Completed(r)
}

func (r *Request) fail(text string) {
	if r.walk.More {
		r.W.Buf = r.W.Buf[:0] // the beginning of a reply
	}
	r.W.Error(text)
	r.complete()
}

// keys is how many keys the command names, as far as reads on a connection's own goroutine care: 0, 1 or many.
func keys(cmd *command.Command, args int) int {
	if cmd.FirstKey == 0 {
		return 0
	}
	last := cmd.LastKey
	if last < 0 {
		last += args
	}
	return (last-cmd.FirstKey)/max(cmd.Step, 1) + 1
}

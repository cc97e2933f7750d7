package node

import (
	"whale/internal/command"
	"whale/internal/resp"
)

var execCommand = command.Lookup([]byte("exec"))

const errNotInMulti = "ERR this command cannot be run inside MULTI at a node with several threads; send it before or after"

// queueInMulti puts a command into the connection's open transaction, if there is one.
func (r *reactor) queueInMulti(c *conn, q *request) bool {
	if !c.client.InMulti() {
		return false
	}
	if !r.owner && readsEngine(q.Cmd) {
		c.fail(q, c.client.Refused(q.Cmd, errNotInMulti))
		return true
	}
	queued := false
	if !c.client.Queue(q.Cmd, q.Args, func() (w *resp.Writer) {
		w, queued = c.reply(q)
		return w
	}) {
		return false
	}
	q.began = 0
	c.replied(q, queued)
	return true
}

// transact prepares WATCH and EXEC, and submits them. EXEC needs the answers of the WATCH before it.
func (r *reactor) transact(c *conn, q *request) {
	if q.Cmd == execCommand {
		t, text := c.client.Exec()
		if text != "" {
			c.fail(q, text)
			return
		}
		q.Multi = t
	} else {
		q.watch = c.client.Watch(q.Args[1:])
	}
	q.Behind = c.first != nil
	c.hold(q)
	c.enqueue(q)
	if q.Multi != nil && len(q.Multi.Watched) > 0 {
		c.barrier = q
		r.passBarrier(c)
	} else {
		r.submit(q)
	}
}

// finishMulti makes the reply of WATCH and EXEC from what the engine answered.
func (c *conn) finishMulti(q *request) {
	if w := q.watch; w != nil {
		q.watch = nil
		if reply, _, err := resp.ParseReply(q.W.Buf); err == nil && reply.Err() == nil {
			w.Stamp = uint64(reply.Int)
			q.W.Buf = q.W.Buf[:0]
			q.W.OK()
		}
	}
	if t := q.Multi; t != nil {
		q.Multi = nil
		if t.Mixed() && !c.dead {
			w := resp.Writer{Proto: q.W.Proto}
			t.Splice(&w, q.W.Buf, func(call *command.Call) {
				r := c.reactor
				r.ctx.Args, r.ctx.W, r.ctx.Client, r.ctx.Server = call.Args, &w, c.client, r.server
				call.Cmd.Run(&r.ctx)
				r.ctx.Reset()
			})
			c.closing = c.closing || c.client.Quit // CLIENT KILL of itself
			q.W.Buf = w.Buf
		}
	}
}

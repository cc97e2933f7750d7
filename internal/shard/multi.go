package shard

import (
	"whale/internal/command"
	"whale/internal/store"
)

// EXEC is one request, and one transaction on the store: its records are one group, and its reply waits for all of them
// and for everything that any of its commands has seen.

const cmdExec = "exec"

// seesAllKeys says whether the request counts or lists keys.
func (r *Request) seesAllKeys() bool {
	return r.Cmd.Place == command.Primary || r.Multi != nil && r.Multi.Primary()
}

// transact runs the commands of EXEC that are not the client's node's own, unless a watched key has changed. Its reply is
// an array of theirs.
func (e *Engine) transact(c *command.Ctx, r *Request, tx *store.Tx) {
	for _, w := range r.Multi.Watched {
		for _, key := range w.Keys {
			if tx.Changed(key, w.Stamp) && e.bad != FaultStampNow {
				c.W.NullArray()
				return
			}
		}
	}
	c.W.Array(r.Multi.Remote())
	for i := range r.Multi.Calls {
		call := &r.Multi.Calls[i]
		if call.Here() {
			continue
		}
		c.Args = call.Args
		for again := true; again; again = c.Walk.More {
			call.Cmd.Run(c)
		}
		if c.Wait.Asked { // nothing can be waited for inside a transaction
			c.W.Int(int64(e.holders(r.Client.LastWrite)))
			c.Wait = command.Wait{}
		}
	}
}

// A transaction follows the arguments of a forwarded EXEC: watched 4 {stamp 8, keys 4 {length 4, bytes}}, commands 4
// {arguments 4 {length 4, bytes}}; only those that P runs.

func multiSize(t *command.Transaction) (n int) {
	if t == nil {
		return 0
	}
	for _, w := range t.Watched {
		n += 12 + listSize(w.Keys)
	}
	for i := range t.Calls {
		n += 4 + listSize(t.Calls[i].Args)
	}
	return 8 + n
}

func listSize(list [][]byte) (n int) {
	for _, b := range list {
		n += 4 + len(b)
	}
	return n
}

func appendMulti(dst []byte, t *command.Transaction) []byte {
	if t == nil {
		return dst
	}
	dst = le.AppendUint32(dst, uint32(len(t.Watched)))
	for _, w := range t.Watched {
		dst = appendList(le.AppendUint64(dst, w.Stamp), w.Keys)
	}
	dst = le.AppendUint32(dst, uint32(t.Remote()))
	for i := range t.Calls {
		if !t.Calls[i].Here() {
			dst = appendList(dst, t.Calls[i].Args)
		}
	}
	return dst
}

func appendList(dst []byte, list [][]byte) []byte {
	dst = le.AppendUint32(dst, uint32(len(list)))
	for _, b := range list {
		dst = append(le.AppendUint32(dst, uint32(len(b))), b...)
	}
	return dst
}

// multi reads a transaction, whose commands the backup has checked.
func (r *reader) multi() *command.Transaction {
	t := &command.Transaction{}
	for n := r.u32(); n > 0 && !r.bad; n-- {
		w := &command.Watch{Stamp: r.u64()}
		w.Keys = r.list()
		t.Watched = append(t.Watched, w)
	}
	for n := r.u32(); n > 0 && !r.bad; n-- {
		call := command.Call{Args: r.list()}
		if call.Cmd = checked(call.Args); call.Cmd == nil || call.Cmd.Place == command.Transact || call.Here() {
			r.bad = true
			break
		}
		t.Add(call)
	}
	return t
}

func (r *reader) list() (list [][]byte) {
	for n := r.u32(); n > 0 && !r.bad; n-- {
		list = append(list, r.bytes(uint64(r.u32())))
	}
	return list
}

package fabrictest_test

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/pmem"
)

// mark is put into the ID of an operation that stands for another.
const mark = 1 << 55

// disguised replaces operations of a kind by a Fence, which completes early and does nothing, and has the completion tell
// otherwise.
func disguised(kind fabric.Kind) func() *badConn {
	return func() *badConn {
		c := each(func(o *fabric.Op) {
			if o.Kind == kind && o.ID&mark == 0 {
				*o = fabric.Op{Kind: fabric.Fence, ID: o.ID | mark, Flags: o.Flags & fabric.Signaled}
			}
		})()
		c.out = fixed(func(c *fabric.Completion) {
			if c.Kind == fabric.Fence && c.ID&mark != 0 {
				c.ID, c.Kind = c.ID&^mark, kind
			}
		})().out
		return c
	}
}

var faults = []fault{
	// Data
	{name: "the last byte of a Write is missing", caught: []string{"write", "inline", "random traffic against a model", "batches"},
		conn: each(func(o *fabric.Op) {
			if o.Kind == fabric.Write && o.Len > 0 {
				o.Len--
			}
		})},
	{name: "a Write is a byte too long", caught: []string{"write", "zero length"}, conn: each(func(o *fabric.Op) {
		if o.Kind == fabric.Write {
			o.Len++
		}
	})},
	{name: "a Read is a byte off", caught: []string{"read"}, conn: each(func(o *fabric.Op) {
		if o.Kind == fabric.Read && o.Remote.Off > 0 {
			o.Remote.Off--
		}
	})},
	{name: "a Read completes before the bytes are there", caught: []string{"read", "a Read and an atomic see what was written before"},
		conn: disguised(fabric.Read)},
	{name: "Write8 loses its upper half", caught: []string{"write8"}, conn: each(func(o *fabric.Op) {
		if o.Kind == fabric.Write8 {
			o.A &= 1<<32 - 1
		}
	})},
	{name: "FetchAdd adds twice", caught: []string{"atomics"}, conn: each(func(o *fabric.Op) {
		if o.Kind == fabric.FetchAdd {
			o.A *= 2
		}
	})},
	{name: "CompareSwap does not compare", caught: []string{"atomics"}, conn: func() *badConn {
		c := each(func(o *fabric.Op) {
			if o.Kind == fabric.CompareSwap {
				*o = fabric.Op{Kind: fabric.Write8, Flags: o.Flags, ID: o.ID | mark, Remote: o.Remote, A: o.B}
			}
		})()
		c.out = fixed(func(c *fabric.Completion) {
			if c.Kind == fabric.Write8 && c.ID&mark != 0 {
				c.ID, c.Kind = c.ID&^mark, fabric.CompareSwap
			}
		})().out
		return c
	}},
	{name: "an atomic does not say what it found", caught: []string{"atomics"}, conn: fixed(func(c *fabric.Completion) {
		if c.Kind == fabric.FetchAdd || c.Kind == fabric.CompareSwap {
			c.Value = 0
		}
	})},
	{name: "a Flush waits for nothing", caught: []string{"flush", "write"}, conn: disguised(fabric.Flush)},
	{name: "Inline is read late", caught: []string{"inline"}, conn: each(func(o *fabric.Op) { o.Flags &^= fabric.Inline })},
	{name: "local memory is read after the completion", caught: []string{"local memory is free after completion"}, conn: func() *badConn {
		return &badConn{post: func(c *badConn, ops []fabric.Op) int {
			c.held = c.held[c.Conn.Post(c.held):]
			if last := &ops[max(0, len(ops)-1)]; len(c.held) == 0 && len(ops) > 0 && last.Kind == fabric.Write && last.Flags == fabric.Signaled {
				last.Flags = 0
				c.held = ops
				c.ready = append(c.ready, fabric.Completion{ID: last.ID, Kind: last.Kind})
				return len(ops)
			}
			return c.Conn.Post(ops)
		}}
	}},

	// Order
	{name: "Writes overtake Writes", caught: []string{"later write wins", "random traffic against a model"}, conn: func() *badConn {
		return &badConn{post: func(c *badConn, ops []fabric.Op) int { // every unsignaled Write waits for the next operation
			for i := range ops {
				if len(c.held) == 0 && ops[i].Kind == fabric.Write && ops[i].Flags == 0 {
					c.held = append(c.held, ops[i])
					continue
				}
				if len(c.held) > 0 && ops[i].Kind != fabric.Write {
					c.Conn.Post(c.held)
					c.held = nil
				}
				if c.Conn.Post(ops[i:i+1]) == 0 {
					return i
				}
				c.Conn.Post(c.held)
				c.held = nil
			}
			return len(ops)
		}}
	}},
	{name: "Write8 overtakes the Write before it", caught: []string{"Write8 behind Write", "ping-pong"}, conn: func() *badConn {
		return &badConn{batch: func(ops []fabric.Op) []fabric.Op {
			for i := 1; i < len(ops); i++ {
				if ops[i].Kind == fabric.Write8 && ops[i-1].Kind == fabric.Write {
					ops[i-1], ops[i] = ops[i], ops[i-1]
				}
			}
			return ops
		}}
	}},
	{name: "a Send overtakes the Write before it", caught: []string{"a message is behind the writes before it"}, conn: func() *badConn {
		return &badConn{post: func(c *badConn, ops []fabric.Op) int {
			before := c.held
			c.held = nil
			switch {
			case len(ops) == 1 && ops[0].Kind == fabric.Write && ops[0].Flags == 0:
				c.Conn.Post(before)
				c.held = ops
				return 1
			case len(ops) == 1 && ops[0].Kind == fabric.Send:
				n := c.Conn.Post(ops)
				c.Conn.Post(before)
				return n
			}
			c.Conn.Post(before)
			return c.Conn.Post(ops)
		}}
	}},
	{name: "Fence means nothing", caught: []string{"Fence"}, conn: func() *badConn {
		return &badConn{post: func(c *badConn, ops []fabric.Op) int {
			for i := range ops {
				if ops[i].Kind == fabric.Fence && ops[i].Flags == 0 {
					continue
				}
				if c.Conn.Post(ops[i:i+1]) == 0 {
					return i
				}
			}
			return len(ops)
		}}
	}},
	{name: "a durable Fence means nothing", caught: []string{"durable Fence"}, conn: each(func(o *fabric.Op) {
		if o.Kind == fabric.Fence && o.A == fabric.Durable && o.Flags == 0 {
			*o = fabric.Op{Kind: fabric.Write, Local: o.Local, ID: o.ID} // of nothing, to nowhere
		}
	})},
	{name: "a durable Fence completes before all has landed", caught: []string{"durable Fence"}, conn: each(func(o *fabric.Op) {
		if o.Kind == fabric.Fence {
			o.A = fabric.Visible
		}
	})},
	{name: "non-temporal writes are plain ones", caught: []string{"non-temporal writes land in order"}, conn: each(func(o *fabric.Op) {
		o.Flags &^= fabric.NonTemporal
	})},
	{name: "a Fence with any placement", caught: []string{"an error ends the connection"}, conn: each(func(o *fabric.Op) {
		if o.Kind == fabric.Fence && o.A > fabric.Durable {
			o.A = fabric.Visible
		}
	})},
	{name: "Fenced means nothing", caught: []string{"Fenced"}, conn: each(func(o *fabric.Op) { o.Flags &^= fabric.Fenced })},
	{name: "an atomic does not wait for the word before it", caught: []string{"a Read and an atomic see what was written before"},
		conn: func() *badConn {
			return &badConn{batch: func(ops []fabric.Op) []fabric.Op {
				for i := 1; i < len(ops); i++ {
					if ops[i].Kind == fabric.FetchAdd && ops[i-1].Kind == fabric.Write8 {
						ops[i-1], ops[i] = ops[i], ops[i-1]
					}
				}
				return ops
			}}
		}},

	// Completions
	{name: "completions out of order", caught: []string{"signaled in order, unsignaled silent", "Poll fills no more than dst", "a full queue", "batches"},
		conn: func() *badConn {
			return &badConn{post: func(c *badConn, ops []fabric.Op) int {
				for i := range ops { // IDs change places in pairs
					if ops[i].Kind == fabric.Write && ops[i].Flags&fabric.Signaled != 0 {
						ops[i].ID ^= 1
					}
				}
				if len(ops) > 2 { // and batches are cut short by one
					if n := c.Conn.Post(ops[:len(ops)-1]); n < len(ops)-1 {
						return n
					}
					return len(ops)
				}
				return c.Conn.Post(ops)
			}}
		}},
	{name: "unsignaled operations report", caught: []string{"signaled in order, unsignaled silent", "a full queue of unsignaled operations"},
		conn: each(func(o *fabric.Op) { o.Flags |= fabric.Signaled })},
	{name: "a completion is lost", caught: []string{"signaled in order, unsignaled silent", "a full queue"}, conn: func() *badConn {
		n := 0
		return without(func(c fabric.Completion) bool { n++; return n%60 == 0 })()
	}},
	{name: "IDs have 32 bits", caught: []string{"signaled in order, unsignaled silent"},
		conn: fixed(func(c *fabric.Completion) { c.ID = uint64(uint32(c.ID)) })},
	{name: "Poll writes beyond dst", caught: []string{"Poll fills no more than dst"}, conn: func() *badConn {
		return &badConn{poll: func(c fabric.Conn, dst []fabric.Completion) int {
			n := c.Poll(dst)
			if cap(dst) > len(dst) {
				dst[:len(dst)+1][len(dst)] = fabric.Completion{}
			}
			return n
		}}
	}},

	// Errors
	{name: "after an error all is well", caught: []string{"an error ends the connection", "an error flushes receives", "a full queue of errors"},
		conn: fixed(func(c *fabric.Completion) {
			if isOne(c.Err, fabric.ErrFlushed) {
				c.Err = nil
			}
		})},
	{name: "unsignaled operations are flushed in silence", caught: []string{"an error ends the connection"},
		conn: without(func(c fabric.Completion) bool { return isOne(c.Err, fabric.ErrFlushed) && c.ID == 3 })},
	{name: "what was posted behind an error lands", caught: []string{"an error ends the connection"}, conn: func() *badConn {
		return &badConn{batch: func(ops []fabric.Op) []fabric.Op {
			if len(ops) == 6 && ops[0].ID == 1 && ops[2].Kind == fabric.Write {
				ops[0].Len = 200 // as if the next Write had been done as well
			}
			return ops
		}}
	}},
	{name: "one error is taken for another", caught: []string{"an error ends the connection", "rights", "Revoke"}, conn: fixed(func(c *fabric.Completion) {
		if isOne(c.Err, fabric.ErrAccess) {
			c.Err = fabric.ErrLocal
		}
	})},
	{name: "an error spreads to other connections", caught: []string{"an error leaves other connections alone"}, conn: func() func() *badConn {
		bad := 0
		return func() *badConn {
			mine := 0
			return fixed(func(c *fabric.Completion) {
				if isOne(c.Err, fabric.ErrAccess) {
					bad, mine = bad+1, mine+1
				} else if bad > mine && c.Err == nil {
					c.Err = fabric.ErrFlushed
				}
			})()
		}
	}()},
	{name: "misaligned words are rounded down", caught: []string{"an error ends the connection"}, conn: each(func(o *fabric.Op) {
		if o.Kind == fabric.Write8 || o.Kind == fabric.FetchAdd || o.Kind == fabric.CompareSwap {
			o.Remote.Off &^= 7
		}
	})},
	{name: "sums of offset and length overflow", caught: []string{"an error ends the connection"}, conn: each(func(o *fabric.Op) {
		if o.Remote.Off+o.Len < o.Remote.Off {
			o.Remote.Off, o.Len = 0, 0
		}
	})},
	{name: "local sums overflow", caught: []string{"an error ends the connection", "bad local memory of a Recv"}, conn: each(func(o *fabric.Op) {
		if o.Local.Off+o.Len < o.Local.Off {
			o.Local.Off, o.Len = 0, 0
		}
	})},
	{name: "unknown flags are ignored", caught: []string{"an error ends the connection"}, conn: each(func(o *fabric.Op) { o.Flags &= 1<<6 - 1 })},
	{name: "flags without a meaning are ignored", caught: []string{"an error ends the connection", "bad local memory of a Recv"},
		conn: each(func(o *fabric.Op) {
			if o.Kind == fabric.Read || o.Kind == fabric.Recv {
				o.Flags &= fabric.Signaled | fabric.Fenced
			}
		})},
	{name: "a flush to nowhere", caught: []string{"an error ends the connection"}, conn: each(func(o *fabric.Op) {
		if o.Kind == fabric.Flush && o.A == 0 {
			o.A = fabric.Visible
		}
	})},
	{name: "a bad buffer is found by the sender alone", caught: []string{"bad local memory of a Recv", "Revoke of local memory"},
		conn: without(func(c fabric.Completion) bool { return c.Kind == fabric.Recv && isOne(c.Err, fabric.ErrLocal) })},

	// Registration
	{name: "rights are ignored", caught: []string{"rights"}, endpoint: func(e *badEndpoint) {
		e.register = func(m pmem.Memory, off, n uint64, r fabric.Rights) (fabric.Key, error) {
			if r != 0 && r <= 15 {
				r = 15
			}
			return e.Endpoint.Register(m, off, n, r)
		}
	}},
	{name: "LocalOnly can be reached", caught: []string{"rights", "an error ends the connection"}, endpoint: func(e *badEndpoint) {
		e.register = func(m pmem.Memory, off, n uint64, r fabric.Rights) (fabric.Key, error) {
			if r == fabric.LocalOnly {
				r = fabric.RemoteRead
			}
			return e.Endpoint.Register(m, off, n, r)
		}
	}},
	{name: "regions are a byte too long", caught: []string{"an error ends the connection"}, endpoint: func(e *badEndpoint) {
		e.register = func(m pmem.Memory, off, n uint64, r fabric.Rights) (fabric.Key, error) {
			return e.Endpoint.Register(m, off, n+1, r)
		}
	}},
	{name: "regions start a word early", caught: []string{"write", "read"}, endpoint: func(e *badEndpoint) {
		e.register = func(m pmem.Memory, off, n uint64, r fabric.Rights) (fabric.Key, error) {
			return e.Endpoint.Register(m, max(off, 8)-8, n, r)
		}
	}},
	{name: "Register cuts what is too long", caught: []string{"Register refuses what is not there"}, endpoint: func(e *badEndpoint) {
		e.register = func(m pmem.Memory, off, n uint64, r fabric.Rights) (fabric.Key, error) {
			size := uint64(len(m.Bytes()))
			off = min(off, size-8) &^ 7
			return e.Endpoint.Register(m, off, min(n, size-off), r&15)
		}
	}},
	{name: "one memory has one key", caught: []string{"Register refuses what is not there", "Revoke"}, endpoint: func(e *badEndpoint) {
		have := map[*byte]fabric.Key{}
		e.register = func(m pmem.Memory, off, n uint64, r fabric.Rights) (fabric.Key, error) {
			if key, ok := have[&m.Bytes()[0]]; ok {
				return key, nil
			}
			key, err := e.Endpoint.Register(m, off, n, r)
			if err == nil {
				have[&m.Bytes()[0]] = key
			}
			return key, err
		}
	}},
	{name: "Revoke does nothing", caught: []string{"Revoke", "Revoke with operations under way", "Revoke of local memory"},
		endpoint: func(e *badEndpoint) { e.revoke = func(fabric.Key) error { return nil } }},
	{name: "Revoke promises too early", caught: []string{"Revoke with operations under way"}, endpoint: func(e *badEndpoint) {
		var last fabric.Key
		e.revoke = func(key fabric.Key) error {
			e.Endpoint.Revoke(last)
			last = key
			return nil
		}
	}},
	{name: "Revoke takes other keys along", caught: []string{"Revoke", "Revoke with operations under way"}, endpoint: func(e *badEndpoint) {
		var keys []fabric.Key
		e.register = func(m pmem.Memory, off, n uint64, r fabric.Rights) (fabric.Key, error) {
			key, err := e.Endpoint.Register(m, off, n, r)
			keys = append(keys, key)
			return key, err
		}
		e.revoke = func(key fabric.Key) error {
			if slices.Contains(keys, key) {
				for _, k := range keys {
					e.Endpoint.Revoke(k)
				}
			}
			return e.Endpoint.Revoke(key)
		}
	}},
	{name: "Revoke wants to know the key", caught: []string{"Revoke"}, endpoint: func(e *badEndpoint) {
		e.revoke = func(key fabric.Key) error {
			if key&0xFFFF000000000000 == 0 {
				return fabric.ErrAccess
			}
			return e.Endpoint.Revoke(key)
		}
	}},

	// Capabilities
	{name: "the queue is shorter than it says", caught: []string{"a full queue"}, caps: func(c *fabric.Caps) { c.QueueDepth++ }},
	{name: "the queue is longer than it says", caught: []string{"a full queue", "a full queue of errors"}, caps: func(c *fabric.Caps) { c.QueueDepth-- }},
	{name: "the receive queue is shorter than it says", caught: []string{"a full receive queue"}, caps: func(c *fabric.Caps) { c.RecvDepth++ }},
	{name: "less goes inline than it says", caught: []string{"capabilities", "inline"}, caps: func(c *fabric.Caps) { c.Inline++ }},
	{name: "more goes inline than it says", caught: []string{"an error ends the connection"}, caps: func(c *fabric.Caps) { c.Inline = 100 }},
	{name: "messages are shorter than it says", caught: []string{"capabilities", "messages"}, caps: func(c *fabric.Caps) { c.MaxSend++ }},
	{name: "messages are longer than it says", caught: []string{"an error ends the connection"}, caps: func(c *fabric.Caps) { c.MaxSend-- }},
	{name: "operations that Post does not execute", caught: []string{"immediate"}, caps: func(c *fabric.Caps) { c.Immediate = true }},
	{name: "atomics that are none", caught: []string{"atomics", "rights"}, caps: func(c *fabric.Caps) { c.Atomics = true },
		opts: func(o *simfab.Options) { o.NoAtomics = true }},
	{name: "atomics that are not told", caught: []string{"atomics"}, caps: func(c *fabric.Caps) { c.Atomics = false }},
	{name: "durability that is none", caught: []string{"flush", "rights"}, caps: func(c *fabric.Caps) { c.Domain = pmem.ADR },
		opts: func(o *simfab.Options) { o.NoDurable = true }},
	{name: "a durable Fence that is none", caught: []string{"durable Fence"}, caps: func(c *fabric.Caps) { c.Domain = pmem.ADR },
		opts: func(o *simfab.Options) { o.NoDurable = true }},
	{name: "a way past the caches that is none", caught: []string{"non-temporal writes land in order"},
		caps: func(c *fabric.Caps) { c.NonTemporal = true }, opts: func(o *simfab.Options) { o.DDIO = true }},
	{name: "durability that is not told", caught: []string{"flush"}, caps: func(c *fabric.Caps) { c.Domain = pmem.None }},
	{name: "a full queue forgets what it did not take", caught: []string{"a full queue", "a full receive queue"}, conn: func() *badConn {
		return &badConn{taken: func(posted, taken int) int { return posted }}
	}},
	{name: "unsignaled operations fill the queue for ever", caught: []string{"a full queue of unsignaled operations"}, conn: func() *badConn {
		room := 100
		return &badConn{post: func(c *badConn, ops []fabric.Op) int {
			for i := range ops {
				if room--; room < 0 {
					return i
				}
				if c.Conn.Post(ops[i:i+1]) == 0 {
					return i
				}
			}
			return len(ops)
		}}
	}},

	// Messages
	{name: "a message loses its last byte", caught: []string{"messages", "messages both ways at once", "capabilities"}, conn: each(func(o *fabric.Op) {
		if o.Kind == fabric.Send && o.Len > 0 {
			o.Len--
		}
	})},
	{name: "a receive tells the length of its buffer", caught: []string{"messages"}, conn: func() *badConn {
		lengths := map[uint64]uint64{}
		c := each(func(o *fabric.Op) {
			if o.Kind == fabric.Recv {
				lengths[o.ID] = o.Len
			}
		})()
		c.out = fixed(func(c *fabric.Completion) {
			if c.Kind == fabric.Recv && c.Err == nil {
				c.Value = lengths[c.ID]
			}
		})().out
		return c
	}},
	{name: "a message that is too long is cut", caught: []string{"a message longer than the buffer"}, conn: fixed(func(c *fabric.Completion) {
		if isOne(c.Err, fabric.ErrTooLong) {
			c.Err = nil
		}
	})},
	{name: "a message without a receive is thrown away", caught: []string{"a message before its receive"}, conn: func() *badConn {
		return &badConn{post: func(c *badConn, ops []fabric.Op) int {
			for i := range ops {
				if c.count++; ops[i].Kind == fabric.Send && ops[i].Len == 8 && ops[i].ID == 3 {
					continue
				}
				if c.Conn.Post(ops[i:i+1]) == 0 {
					return i
				}
			}
			return len(ops)
		}}
	}},
	{name: "messages of one way come the other", caught: []string{"messages both ways at once"}, conn: func() func() *badConn {
		n := 0
		return func() *badConn {
			n++
			way := n % 2
			return fixed(func(c *fabric.Completion) {
				if c.Kind == fabric.Send && way == 1 && c.ID > 100 {
					c.Kind = fabric.Recv
				}
			})()
		}
	}()},

	// Rings
	{name: "every third ring is lost", caught: []string{"a ring before Arm", "a ring after Arm", "no ring is lost"}, conn: func() *badConn {
		n := 0
		return each(func(o *fabric.Op) {
			if o.Flags&fabric.Notify != 0 {
				if n++; n%3 == 0 {
					o.Flags &^= fabric.Notify
				}
			}
		})()
	}},
	{name: "rings before Arm are lost", caught: []string{"a ring before Arm", "no ring is lost"}, endpoint: func(e *badEndpoint) {
		e.arm = func() bool { return e.Endpoint.Arm() || e.Endpoint.Arm() }
	}},
	{name: "Arm is never true", caught: []string{"a ring after Arm", "Wait ends after its time"}, endpoint: func(e *badEndpoint) {
		e.arm = func() bool { e.Endpoint.Arm(); return false }
	}},
	{name: "everything rings", caught: []string{"a ring before Arm"}, conn: each(func(o *fabric.Op) {
		if o.Kind == fabric.Write || o.Kind == fabric.Write8 {
			o.Flags |= fabric.Notify
		}
	})},
	{name: "Disarm loses the ring", caught: []string{"a ring before Disarm"}, endpoint: func(e *badEndpoint) {
		e.disarm = func() { e.Endpoint.Wait(0) }
	}},
	{name: "Wait leaves the ring", caught: []string{"a ring after Arm"}, endpoint: func(e *badEndpoint) { e.wait = func(time.Duration) {} }},
	{name: "Wait always takes its time", caught: []string{"Close of a connection", "the peer disappears"},
		endpoint: func(e *badEndpoint) { e.wait = func(d time.Duration) { time.Sleep(d); e.Endpoint.Wait(d) } }},
	{name: "Wait takes more than its time", caught: []string{"Wait ends after its time"},
		endpoint: func(e *badEndpoint) {
			e.wait = func(d time.Duration) { time.Sleep(120*time.Millisecond + d); e.Endpoint.Wait(d) }
		}},

	// Lifecycle
	{name: "Close keeps it to itself", caught: []string{"Close of a connection"}, conn: func() *badConn {
		return &badConn{close: func(fabric.Conn) error { return nil }}
	}},
	{name: "a lost connection looks alive", caught: []string{"Close of a connection", "Close of the endpoint", "the peer disappears"},
		conn: without(func(c fabric.Completion) bool {
			return c.Kind == fabric.Recv && isOne(c.Err, fabric.ErrBroken, fabric.ErrFlushed)
		})},
	{name: "the endpoint stays open", caught: []string{"Close of the endpoint"},
		endpoint: func(e *badEndpoint) { e.closed = func() error { return nil } }},
	{name: "the hello is cut", caught: []string{"hello and answer"}, connect: func(next connect) connect {
		return func(hello []byte, answer func([]byte) ([]byte, error)) (fabric.Conn, fabric.Conn, []byte, error) {
			return next(hello[:min(len(hello), 1000)], answer)
		}
	}},
	{name: "the answer is changed", caught: []string{"hello and answer"}, connect: func(next connect) connect {
		return func(hello []byte, answer func([]byte) ([]byte, error)) (fabric.Conn, fabric.Conn, []byte, error) {
			a, b, reply, err := next(hello, answer)
			return a, b, bytes.ToUpper(reply), err
		}
	}},
	{name: "a refusal has no text", caught: []string{"a refused connection"}, connect: func(next connect) connect {
		return func(hello []byte, answer func([]byte) ([]byte, error)) (fabric.Conn, fabric.Conn, []byte, error) {
			a, b, reply, err := next(hello, answer)
			if err != nil {
				err = errors.New("refused")
			}
			return a, b, reply, err
		}
	}},
	{name: "somebody answers at every address", caught: []string{"nobody to dial"}, endpoint: func(e *badEndpoint) { e.anywhere = true }},
}

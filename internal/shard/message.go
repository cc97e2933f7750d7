package shard

import (
	"errors"
	"fmt"

	"whale/fabric"
	"whale/internal/plog"
	"whale/internal/replication"
)

// Messages between members, little-endian. Those of a view change carry its epoch, and one of another epoch is ignored.
const (
	msgReport  = 1 // to P, whenever the sender's connections change: epoch stored 4, end of its log 8, connected members 8 (bits), incarnation 8
	msgFence   = 2 // from P: epoch 4
	msgFenced  = 3 // to P: epoch 4, end of its log 8, ring drained up to 8, key 8
	msgView    = 4 // from P: epoch 4, P's log end 8, protocol 1 {bytes}, policy 1, mirrors 4, members 4 {id 4, key 8, data end 8}, epoch table 4 {epoch 4, first seq 8, first offset 8}
	msgViewed  = 5 // to P: epoch 4
	msgActive  = 6 // from P: epoch 4, S 8
	msgRequest = 7 // to P: id 8, time left in ms 4, seq of the client's last write 8, protocol 1, arguments 4 {length 4, bytes}; of EXEC: see multi.go
	msgReply   = 8 // from P: id 8, seq of the last write 8, reply bytes
	msgCancel  = 9 // to P: id 8 of a WAIT whose client is gone

	msgAsk   = 10 // between P and a backup: epoch for which a lease is wanted 4 (0: none, only an answer), the asker's clock 8
	msgGrant = 11 // the answer: epoch 4, the asker's clock 8, how long from then on the lease lasts 8, in ns (0: there is none)
)

// reader takes a message apart; after the first read beyond its end everything is zero and bad is set.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) bytes(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.bytes(4); b != nil {
		return le.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.bytes(8); b != nil {
		return le.Uint64(b)
	}
	return 0
}

// end says whether the message was exactly as long as what was read of it.
func (r *reader) end() bool { return !r.bad && len(r.b) == 0 }

var errMessage = errors.New("a malformed message")

// message handles one message. An error breaks the connection it came on.
func (e *Engine) message(from int, kind byte, body []byte) error {
	r := reader{b: body}
	ok := false
	switch kind {
	case msgReport:
		rep := report{valid: true, epoch: r.u32(), end: r.u64(), links: r.u64(), incarnation: r.u64()}
		if ok = r.end(); ok {
			e.reports[from] = rep
			e.reported(from)
		}
	case msgFence:
		epoch := r.u32()
		if ok = r.end() && from == 0; ok {
			e.fence(epoch)
		}
	case msgFenced:
		m := memberState{epoch: r.u32(), end: r.u64(), drained: r.u64(), key: fabric.Key(r.u64())}
		if ok = r.end() && e.primary(); ok {
			e.fencedMember(from, m)
		}
	case msgView:
		v, isView := decodeView(&r)
		if ok = isView && from == 0; ok {
			return e.adoptView(v)
		}
	case msgViewed:
		epoch := r.u32()
		if ok = r.end() && e.primary(); ok {
			e.viewedMember(from, epoch)
		}
	case msgActive:
		epoch, s := r.u32(), r.u64()
		if ok = r.end() && from == 0; ok {
			e.activated(epoch, s)
		}
	case msgRequest:
		ok = e.forwardedRequest(from, &r)
	case msgCancel:
		id := r.u64()
		if ok = r.end() && e.primary(); ok {
			e.cancelled(from, id)
		}
	case msgAsk:
		epoch, token := r.u32(), int64(r.u64())
		if ok = r.end(); ok {
			e.leaseAsked(from, epoch, token)
		}
	case msgGrant:
		epoch, token, length := r.u32(), int64(r.u64()), int64(r.u64())
		ok = r.end() && e.leaseGiven(from, epoch, token, length)
	case msgReply:
		id, seq := r.u64(), r.u64()
		if ok = !r.bad; ok {
			e.forwardedReply(from, id, seq, r.b)
		}
	}
	if !ok {
		return fmt.Errorf("%w of kind %d and %d bytes", errMessage, kind, len(body))
	}
	return nil
}

// send queues a message that consists of words.
func (e *Engine) send(to int, kind byte, words ...any) {
	l := &e.links[to]
	if l.conn == nil {
		return
	}
	c := &l.channel
	at := c.begin(kind)
	for _, w := range words {
		switch w := w.(type) {
		case uint32:
			c.out = le.AppendUint32(c.out, w)
		case uint64:
			c.out = le.AppendUint64(c.out, w)
		case fabric.Key:
			c.out = le.AppendUint64(c.out, uint64(w))
		}
	}
	c.end(at)
}

// sentView is what P tells the members of a new view.
type sentView struct {
	epoch    uint32
	end      uint64
	protocol string
	policy   replication.Policy
	mirrors  uint32
	members  []memberEntry
	table    []plog.EpochEntry
}

type memberEntry struct {
	id      uint32
	key     fabric.Key
	dataEnd uint64
}

func (e *Engine) sendView(to int, v *sentView) {
	l := &e.links[to]
	if l.conn == nil {
		return
	}
	c := &l.channel
	at := c.begin(msgView)
	c.out = le.AppendUint32(c.out, v.epoch)
	c.out = le.AppendUint64(c.out, v.end)
	c.out = append(c.out, byte(len(v.protocol)))
	c.out = append(c.out, v.protocol...)
	c.out = append(c.out, byte(v.policy))
	c.out = le.AppendUint32(c.out, v.mirrors)
	c.out = le.AppendUint32(c.out, uint32(len(v.members)))
	for _, m := range v.members {
		c.out = le.AppendUint32(c.out, m.id)
		c.out = le.AppendUint64(c.out, uint64(m.key))
		c.out = le.AppendUint64(c.out, m.dataEnd)
	}
	c.out = le.AppendUint32(c.out, uint32(len(v.table)))
	for _, t := range v.table {
		c.out = le.AppendUint32(c.out, t.Epoch)
		c.out = le.AppendUint64(c.out, t.FirstSeq)
		c.out = le.AppendUint64(c.out, t.FirstOff)
	}
	c.end(at)
}

func decodeView(r *reader) (*sentView, bool) {
	v := &sentView{epoch: r.u32(), end: r.u64(), protocol: string(r.bytes(uint64(r.u8()))), policy: replication.Policy(r.u8()), mirrors: r.u32()}
	for n := r.u32(); n > 0 && !r.bad; n-- {
		v.members = append(v.members, memberEntry{id: r.u32(), key: fabric.Key(r.u64()), dataEnd: r.u64()})
	}
	for n := r.u32(); n > 0 && !r.bad; n-- {
		v.table = append(v.table, plog.EpochEntry{Epoch: r.u32(), FirstSeq: r.u64(), FirstOff: r.u64()})
	}
	return v, r.end() && v.policy <= replication.All && uint64(v.mirrors) < uint64(len(v.members))
}

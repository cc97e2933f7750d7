package shard

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"whale/fabric"
	"whale/pmem"
)

var le = binary.LittleEndian

// Work requests of a channel have this bit in their IDs; the core's never do.
const idChannel = uint64(1) << 63

// BufferSize is how much memory an engine of so many members needs for messages (Config.Buffers).
func BufferSize(members int) uint64 { return uint64(members) * channelBytes }

const (
	frameSize    = 64 << 10
	frameHeader  = 8 // length of the payload 4, credits 2, spare 2
	frames       = 8 // posted for receiving, and for sending, on each connection
	channelBytes = 2 * frames * frameSize
	maxMessage   = 64 << 20
	msgHeader    = 5 // length of the body 4, kind 1
)

// channel is a stream of messages in both directions over SEND and RECV: a message is cut into frames and put together
// again. The receiver posts as many frames as the sender may have on the way; a frame's header returns the credits for
// frames that were posted again. The last credit is kept for a frame that only returns credits, so that two full senders
// do not wait for each other.
//
// The first frame buffers receive, the others send.
type channel struct {
	conn    fabric.Conn
	key     fabric.Key
	base    uint64 // of this channel's buffers in the registered memory
	mem     pmem.Memory
	credits int    // frames that the peer can take
	owed    int    // frames posted again here since the peer was told
	free    uint32 // send buffers not in use, a bit each
	out     []byte // messages not yet framed
	sent    int    // of out
	in      []byte // the beginning of a message that came in several frames
}

func (c *channel) reset(conn fabric.Conn, key fabric.Key, base uint64, mem pmem.Memory) {
	*c = channel{conn: conn, key: key, base: base, mem: mem, credits: frames, free: 1<<frames - 1, out: c.out[:0], in: c.in[:0]}
	for i := range frames {
		c.recv(i)
	}
}

func (c *channel) recv(i int) {
	// The queue for receives holds far more than these: see the capabilities of the providers.
	c.conn.Post([]fabric.Op{{
		Kind: fabric.Recv, ID: idChannel | uint64(i), Len: frameSize,
		Local: fabric.Span{Key: c.key, Off: c.base + uint64(i)*frameSize},
	}})
}

func (c *channel) buffer(i int) []byte {
	off := c.base + uint64(i)*frameSize
	return c.mem.Bytes()[off : off+frameSize]
}

// begin starts a message; the caller appends its body to c.out and calls end with what begin returned.
func (c *channel) begin(kind byte) int {
	at := len(c.out)
	c.out = append(c.out, 0, 0, 0, 0, kind)
	return at
}

func (c *channel) end(at int) { le.PutUint32(c.out[at:], uint32(len(c.out)-at-msgHeader)) }

// queued is how many bytes wait for frames.
func (c *channel) queued() int { return len(c.out) - c.sent }

// pump frames and posts what is queued, as far as credits and buffers go.
func (c *channel) pump() bool {
	progress := false
	for c.free != 0 {
		n := min(c.queued(), frameSize-frameHeader)
		returns := c.owed >= frames/2
		if (n == 0 || c.credits < 2) && !(returns && c.credits >= 1) {
			break
		}
		if c.credits < 2 {
			n = 0 // the last credit carries credits only
		}
		i := bits.TrailingZeros32(c.free)
		b := c.buffer(frames + i)
		le.PutUint32(b, uint32(n))
		le.PutUint16(b[4:], uint16(c.owed))
		le.PutUint16(b[6:], 0)
		copy(b[frameHeader:], c.out[c.sent:c.sent+n])
		op := [1]fabric.Op{{
			Kind: fabric.Send, Flags: fabric.Signaled | fabric.Notify, ID: idChannel | uint64(frames+i), Len: frameHeader + uint64(n),
			Local: fabric.Span{Key: c.key, Off: c.base + uint64(frames+i)*frameSize},
		}}
		if c.conn.Post(op[:]) == 0 {
			break
		}
		c.free &^= 1 << i
		c.owed = 0
		c.credits--
		c.sent += n
		progress = true
	}
	if c.sent == len(c.out) {
		c.out, c.sent = c.out[:0], 0
		if cap(c.out) > maxMessage/16 {
			c.out = nil
		}
	} else if c.sent >= frameSize && c.sent > len(c.out)/2 {
		// On a way that is never idle what was sent would stay for ever.
		c.out, c.sent = c.out[:copy(c.out, c.out[c.sent:])], 0
	}
	return progress
}

// completion handles one of the channel's completions; each whole message that it brings goes to handle.
func (c *channel) completion(done fabric.Completion, handle func(kind byte, body []byte) error) error {
	i := int(done.ID &^ idChannel)
	if i >= frames {
		c.free |= 1 << (i - frames)
		return nil
	}
	b := c.buffer(i)
	if done.Value < frameHeader || done.Value > frameSize || uint64(le.Uint32(b)) != done.Value-frameHeader {
		return fmt.Errorf("a frame of %d bytes says that it holds %d", done.Value, le.Uint32(b))
	}
	c.credits = min(c.credits+int(le.Uint16(b[4:])), frames)
	err := c.stream(b[frameHeader:done.Value], handle)
	c.owed++
	c.recv(i)
	return err
}

// stream takes the next bytes of the stream. A message that lies in them whole is handled in place.
func (c *channel) stream(b []byte, handle func(kind byte, body []byte) error) error {
	if len(c.in) > 0 {
		c.in = append(c.in, b...)
		b = c.in
	}
	for len(b) >= msgHeader {
		n := uint64(le.Uint32(b))
		if n > maxMessage {
			return fmt.Errorf("a message of %d bytes; the limit is %d", n, maxMessage)
		}
		if uint64(len(b)) < msgHeader+n {
			break
		}
		if err := handle(b[4], b[msgHeader:msgHeader+n]); err != nil {
			return err
		}
		b = b[msgHeader+n:]
	}
	rest := copy(c.in[:cap(c.in)], b)
	if rest < len(b) {
		c.in = append(c.in[:0], b...)
	} else {
		c.in = c.in[:rest]
	}
	if len(c.in) == 0 && cap(c.in) > maxMessage/16 {
		c.in = nil
	}
	return nil
}

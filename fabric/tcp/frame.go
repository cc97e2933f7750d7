package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"whale/fabric"
)

// On the wire, little-endian. A request, on the socket of whoever initiates:
//
//	kind 1, flags 1, zero 2, n 4, key 8, off 8, a 8, b 8, seq 4, crc 4; then n bytes of payload
//
// and a reply, the other way on the same socket:
//
//	kind 1, code 1, zero 2, n 4, value 8, seq 4, crc 4; then n bytes, padded to whole words
//
// seq is the number of the operation on this connection, counted from 0, modulo 2^32; crc is CRC-32C of the header
// before it. A Write of more than maxPayload bytes is several requests of the same seq, in order of their offsets; the
// answer to a Read is as many replies as it takes.
const (
	requestSize = 48
	replySize   = 24
	maxPayload  = 64 << 10 // bytes behind one header
)

// Flags of a request.
const (
	flagAck         = 1 << iota // an answer is wanted as soon as there is nothing more to read
	flagNotify                  // ring
	flagThrough                 // write through
	flagDurable                 // of a flush or fence; else visible
	flagRegion                  // of a flush; else a range
	flagNonTemporal             // pass the caches by

	allFlags = flagAck | flagNotify | flagThrough | flagDurable | flagRegion | flagNonTemporal
)

// request is the header of a request. What a and b are depends on the kind:
//
//	Write                 a: bytes that the operation still has to write, n among them
//	Read, Flush           a: length
//	Write8, FetchAdd      a: operand
//	CompareSwap           a, b: operands
type request struct {
	kind  fabric.Kind
	flags uint8
	n     uint32
	key   fabric.Key
	off   uint64
	a, b  uint64
	seq   uint32
}

// Kinds of a reply.
const (
	replyAck   = iota + 1 // every operation up to seq has been executed
	replyValue            // value is what the atomic seq found; those before it have been executed
	replyData             // the bytes of the Read seq from value on; those before it have been executed
	replyFail             // operation seq was refused, for the reason code and the text behind it; those before it have been executed
)

// reply is the header of a reply.
type reply struct {
	kind, code uint8
	n          uint32
	value      uint64
	seq        uint32
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errFrame = errors.New("malformed frame")

// encode fills the first requestSize bytes of b.
func (q *request) encode(b []byte) {
	_ = b[requestSize-1]
	b[0], b[1], b[2], b[3] = uint8(q.kind), q.flags, 0, 0
	binary.LittleEndian.PutUint32(b[4:], q.n)
	binary.LittleEndian.PutUint64(b[8:], uint64(q.key))
	binary.LittleEndian.PutUint64(b[16:], q.off)
	binary.LittleEndian.PutUint64(b[24:], q.a)
	binary.LittleEndian.PutUint64(b[32:], q.b)
	binary.LittleEndian.PutUint32(b[40:], q.seq)
	binary.LittleEndian.PutUint32(b[44:], crc32.Checksum(b[:44], castagnoli))
}

// decode reads a header of requestSize bytes. All that it lets pass makes sense by itself.
func (q *request) decode(b []byte) error {
	if got, want := crc32.Checksum(b[:44], castagnoli), binary.LittleEndian.Uint32(b[44:]); got != want {
		return fmt.Errorf("%w: checksum %#x of a request, expected %#x", errFrame, want, got)
	}
	*q = request{
		kind: fabric.Kind(b[0]), flags: b[1], n: binary.LittleEndian.Uint32(b[4:]), key: fabric.Key(binary.LittleEndian.Uint64(b[8:])),
		off: binary.LittleEndian.Uint64(b[16:]), a: binary.LittleEndian.Uint64(b[24:]), b: binary.LittleEndian.Uint64(b[32:]),
		seq: binary.LittleEndian.Uint32(b[40:]),
	}
	switch {
	case q.kind < fabric.Write || q.kind > fabric.Send || q.flags&^allFlags != 0 || b[2] != 0 || b[3] != 0:
		return fmt.Errorf("%w: a request of kind %d with flags %#x", errFrame, q.kind, q.flags)
	case q.n > maxPayload || q.n > 0 && q.kind != fabric.Write && q.kind != fabric.Send:
		return fmt.Errorf("%w: a request of kind %d with %d bytes", errFrame, q.kind, q.n)
	case q.kind == fabric.Write && (uint64(q.n) > q.a || q.n == 0 && q.a > 0):
		return fmt.Errorf("%w: %d of %d bytes of a write", errFrame, q.n, q.a)
	}
	return nil
}

// encode fills the first replySize bytes of b.
func (p *reply) encode(b []byte) {
	_ = b[replySize-1]
	b[0], b[1], b[2], b[3] = p.kind, p.code, 0, 0
	binary.LittleEndian.PutUint32(b[4:], p.n)
	binary.LittleEndian.PutUint64(b[8:], p.value)
	binary.LittleEndian.PutUint32(b[16:], p.seq)
	binary.LittleEndian.PutUint32(b[20:], crc32.Checksum(b[:20], castagnoli))
}

// decode reads a header of replySize bytes.
func (p *reply) decode(b []byte) error {
	if got, want := crc32.Checksum(b[:20], castagnoli), binary.LittleEndian.Uint32(b[20:]); got != want {
		return fmt.Errorf("%w: checksum %#x of a reply, expected %#x", errFrame, want, got)
	}
	*p = reply{kind: b[0], code: b[1], n: binary.LittleEndian.Uint32(b[4:]), value: binary.LittleEndian.Uint64(b[8:]), seq: binary.LittleEndian.Uint32(b[16:])}
	limit := uint32(0)
	switch p.kind {
	case replyData:
		limit = maxPayload
	case replyFail:
		limit = maxText
	case replyAck, replyValue:
	default:
		return fmt.Errorf("%w: a reply of kind %d", errFrame, p.kind)
	}
	if p.n > limit || b[2] != 0 || b[3] != 0 {
		return fmt.Errorf("%w: a reply of kind %d with %d bytes", errFrame, p.kind, p.n)
	}
	return nil
}

// padded is n rounded up to whole words.
func padded(n uint32) int { return int(n+7) &^ 7 }

const maxText = 512 // bytes of the text of a refusal

// codes are what a reply may say of a refused operation; the index is on the wire.
var codes = [...]error{1: fabric.ErrAccess, 2: fabric.ErrOp, 3: fabric.ErrUnsupported, 4: fabric.ErrTooLong, 5: fabric.ErrBroken}

// codeOf is the code of err. What is wrong at the target alone, a bad receive buffer for one, is a lost connection here.
func codeOf(err error) uint8 {
	for code, known := range codes {
		if known != nil && errors.Is(err, known) {
			return uint8(code)
		}
	}
	return 5
}

// refusal is the error of a refused operation.
func refusal(code uint8, text string) error {
	known := fabric.ErrBroken
	if int(code) < len(codes) && code > 0 {
		known = codes[code]
	}
	return fmt.Errorf("%w: the peer says: %q", known, text)
}

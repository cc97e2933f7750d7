package plog

// Layout of a segment's header, byte offsets. It is a function of the segment's first record alone, so that it is the
// same on all members.
const (
	segMagic      = 0
	segNumber     = 4
	segGeneration = 8 // 1: no segment is reused yet
	segEpoch      = 16
	segSpare      = 20 // zero
	segFirstSeq   = 24
	segSpare2     = 32 // zero, to 60
	segCheck      = 60 // crc32c of [0, 60)
)

const (
	segmentMagic    = 0x4d474553 // "SEGM"
	firstGeneration = 1
)

type segmentHeader struct {
	number     uint32
	generation uint64
	epoch      uint32 // of the first record
	firstSeq   uint64
}

func (h segmentHeader) encode(b []byte) {
	clear(b[:SegmentHeaderSize])
	le.PutUint32(b[segMagic:], segmentMagic)
	le.PutUint32(b[segNumber:], h.number)
	le.PutUint64(b[segGeneration:], h.generation)
	le.PutUint32(b[segEpoch:], h.epoch)
	le.PutUint64(b[segFirstSeq:], h.firstSeq)
	le.PutUint32(b[segCheck:], checksum(b[:segCheck]))
}

// decodeSegmentHeader fails on a wrong magic or checksum, and on anything in the spare bytes.
func decodeSegmentHeader(b []byte) (segmentHeader, bool) {
	b = b[:SegmentHeaderSize]
	ok := le.Uint32(b[segMagic:]) == segmentMagic && le.Uint32(b[segCheck:]) == checksum(b[:segCheck]) &&
		le.Uint32(b[segSpare:]) == 0 && allZero(b[segSpare2:segCheck])
	return segmentHeader{
		number:     le.Uint32(b[segNumber:]),
		generation: le.Uint64(b[segGeneration:]),
		epoch:      le.Uint32(b[segEpoch:]),
		firstSeq:   le.Uint64(b[segFirstSeq:]),
	}, ok
}

// opens says whether b is exactly the header of the segment that holds arena offset off, opened by that record.
func opens(b []byte, g Geometry, off, seq uint64, epoch uint32) bool {
	h, ok := decodeSegmentHeader(b)
	return ok && h == headerFor(g, off, seq, epoch)
}

func headerFor(g Geometry, off, seq uint64, epoch uint32) segmentHeader {
	return segmentHeader{number: uint32(off / g.SegmentSize), generation: firstGeneration, epoch: epoch, firstSeq: seq}
}

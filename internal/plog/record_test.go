package plog

import (
	"bytes"
	"errors"
	"hash/crc32"
	"testing"
)

func encodeRecord(r *Record) []byte {
	b := make([]byte, pad(RecordSize(len(r.Key), len(r.Value))))
	le.PutUint64(b, r.put(b))
	return b
}

func sampleRecord(key, value string) Record {
	return Record{Kind: Put, GroupEnd: true, Epoch: 7, Seq: 99, Prev: 640, Deadline: 1 << 41, Client: 5, Request: 6, Key: []byte(key), Value: []byte(value)}
}

func TestRecordRoundTrip(t *testing.T) {
	for _, r := range []Record{
		sampleRecord("key", "value"),
		sampleRecord("", ""),
		sampleRecord("12345678", ""),
		{Kind: FlushAll, Seq: 1, Epoch: 1},
		{Kind: Tombstone, Seq: 1 << 47, Epoch: 1<<32 - 1, Key: bytes.Repeat([]byte{0}, 300), Deadline: -1},
	} {
		b := append(encodeRecord(&r), 0xEE, 0xEE) // what follows does not matter
		got, n, err := DecodeRecord(b)
		if err != nil || !equalRecords(got, r) || n != int(RecordSize(len(r.Key), len(r.Value))) {
			t.Errorf("%+v decodes as %+v, %d, %v", r, got, n, err)
		}
		if peeked, m, ok := PeekRecord(b); !ok || m != n || !equalRecords(peeked, r) {
			t.Errorf("%+v peeks as %+v, %d, %v", r, peeked, m, ok)
		}
	}
}

// Every bit of a record counts, and the error has both checksums.
func TestRecordBitFlips(t *testing.T) {
	r := sampleRecord("key", "some value")
	b := encodeRecord(&r)
	_, n, err := DecodeRecord(b)
	must(t, err)
	for bit := range n * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		_, _, err := DecodeRecord(b)
		var e *RecordError
		if !errors.As(err, &e) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
		if e.Want != le.Uint32(b) || e.Want == e.Got {
			t.Errorf("bit %d flipped: stored %08x, the error says stored %08x, computed %08x", bit, le.Uint32(b), e.Want, e.Got)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
}

// Bytes with a right checksum that no Append writes are refused: they are of a format to come.
func TestRecordUnknownFormat(t *testing.T) {
	for name, change := range map[string]func(b []byte){
		"kind 0":         func(b []byte) { b[4] = 0 },
		"kind 4":         func(b []byte) { b[4] = 4 },
		"mark":           func(b []byte) { b[5] |= 2 },
		"spare":          func(b []byte) { b[6] = 1 },
		"second spare":   func(b []byte) { b[28] = 1 },
		"flush with key": func(b []byte) { b[4] = byte(FlushAll) },
	} {
		r := sampleRecord("key", "value!!!")
		b := encodeRecord(&r)
		_, n, err := DecodeRecord(b)
		must(t, err)
		change(b)
		putCRC(b, 0, 4, n)
		if got, _, err := DecodeRecord(b); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
}

func TestHashKey(t *testing.T) {
	if HashKey([]byte("a")) == HashKey([]byte("b")) || HashKey(nil) == 0 {
		t.Error("hashes")
	}
	// The value for no bytes is that of the reference implementation of XXH3.
	for key, want := range map[string]uint64{"": 0x2d06800538d394c2, "whale": 0x48dda83a6fea3143} {
		if got := HashKey([]byte(key)); got != want {
			t.Errorf("the hash of %q is part of the format, and has become %#x", key, got)
		}
	}
}

func FuzzRecord(f *testing.F) {
	for _, r := range []Record{sampleRecord("key", "value"), sampleRecord("", ""), {Kind: FlushAll, Seq: 1}} {
		f.Add(encodeRecord(&r))
	}
	huge := encodeRecord(&Record{Kind: Put, Key: []byte("k")})
	le.PutUint32(huge[recKeyLen:], 1<<32-1)
	le.PutUint32(huge[recValLen:], 1<<32-1)
	f.Add(huge)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		for range 2 {
			r, n, err := DecodeRecord(b)
			if err == nil {
				if crc32.Checksum(b[4:n], crc32.MakeTable(crc32.Castagnoli)) != le.Uint32(b) {
					t.Fatalf("accepted with a wrong checksum: %x", b)
				}
				if again := encodeRecord(&r); !bytes.Equal(again[:n], b[:n]) {
					t.Fatalf("%x decodes as %+v, which encodes as %x", b[:n], r, again)
				}
			}
			_, n, ok := PeekRecord(b)
			if !ok {
				return
			}
			b = bytes.Clone(b)
			putCRC(b, 0, 4, n)
		}
	})
}

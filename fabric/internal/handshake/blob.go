package handshake

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// A frame is: kind 1, zero 1, length 2 (little-endian), then the bytes.
const (
	frameBlob   = 1
	frameRefuse = 2
	frameHeader = 4
	maxFrame    = 1<<16 - 1
	maxRefusal  = 1024
)

// WriteBlob sends b, of at most 65535 bytes, in one write.
func WriteBlob(w io.Writer, b []byte) error { return writeFrame(w, frameBlob, b) }

// WriteRefusal sends the text of err, cut to 1024 bytes, in place of a blob.
func WriteRefusal(w io.Writer, err error) error {
	text := err.Error()
	if len(text) > maxRefusal {
		text = text[:maxRefusal]
	}
	return writeFrame(w, frameRefuse, []byte(text))
}

// ReadBlob reads what the other side sent with [WriteBlob], at most max bytes of it; a refusal is a [*RefusedError].
func ReadBlob(r io.Reader, max int) ([]byte, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, fmt.Errorf("handshake: reading a frame: %w", err)
	}
	kind, n := header[0], int(binary.LittleEndian.Uint16(header[2:]))
	switch {
	case kind == frameRefuse && header[1] == 0:
		max = maxRefusal
	case kind != frameBlob || header[1] != 0:
		return nil, fmt.Errorf("handshake: frame of kind %d.%d, expected %d or %d", kind, header[1], frameBlob, frameRefuse)
	}
	if n > max {
		return nil, fmt.Errorf("handshake: frame of %d bytes, at most %d are allowed here", n, max)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("handshake: reading a frame of %d bytes: %w", n, err)
	}
	if kind == frameRefuse {
		return nil, &RefusedError{Text: printable(string(b))}
	}
	return b, nil
}

func writeFrame(w io.Writer, kind byte, b []byte) error {
	if len(b) > maxFrame {
		return errors.New("handshake: blob longer than 65535 bytes")
	}
	frame := make([]byte, frameHeader, frameHeader+len(b))
	frame[0] = kind
	binary.LittleEndian.PutUint16(frame[2:], uint16(len(b)))
	if _, err := w.Write(append(frame, b...)); err != nil {
		return fmt.Errorf("handshake: sending a frame: %w", err)
	}
	return nil
}

// printable keeps control characters of a peer's text out of terminals and logs.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

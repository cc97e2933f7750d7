package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"whale/fabric"
	"whale/pmem"
)

// What a primary says when it dials, and what the mirror answers; little-endian.
//
//	hello    magic 8, version 4, kind 4, session 16, id 16, size 8, state 8
//	answer   magic 8, version 4, zero 4, key 8, id 16, size 8, state 8, persistence domain of the
//	         memory 8, boot of the copy 16, boot of the machine now 16
//	refusal  magic 8, version 4, 1 4, text of at most maxText bytes
//
// A session is one primary's use of the mirror: it begins with kind first, which withdraws the memory from the session
// before it, and goes on with one connection of kind further for each thread.
const (
	helloMagic   = 0x4f4c4c4548524d57 // "WMRHELLO"
	helloVersion = 2
	helloSize    = 64
	answerSize   = 96
	maxText      = 1024

	kindFirst   = 1
	kindFurther = 2
)

type hello struct {
	kind    uint32
	session ID
	label   Label
}

type answer struct {
	key    fabric.Key
	label  Label
	domain pmem.Domain
	boot   [2]uint64 // of the mirror's machine now
}

func (h *hello) encode() []byte {
	b := make([]byte, helloSize)
	le := binary.LittleEndian
	le.PutUint64(b, helloMagic)
	le.PutUint32(b[8:], helloVersion)
	le.PutUint32(b[12:], h.kind)
	copy(b[16:], h.session[:])
	copy(b[32:], h.label.ID[:])
	le.PutUint64(b[48:], h.label.Size)
	le.PutUint64(b[56:], h.label.State.word())
	return b
}

func (h *hello) decode(b []byte) error {
	if err := opening(b, helloSize, "the peer"); err != nil {
		return err
	}
	le := binary.LittleEndian
	*h = hello{kind: le.Uint32(b[12:]), session: ID(b[16:32]),
		label: Label{ID: ID(b[32:48]), Size: le.Uint64(b[48:]), State: stateOf(le.Uint64(b[56:]))}}
	if h.kind != kindFirst && h.kind != kindFurther {
		return fmt.Errorf("mirror: the peer asks for a connection of kind %d; expected %d or %d", h.kind, kindFirst, kindFurther)
	}
	return nil
}

func (a *answer) encode() []byte {
	b := make([]byte, answerSize)
	le := binary.LittleEndian
	le.PutUint64(b, helloMagic)
	le.PutUint32(b[8:], helloVersion)
	le.PutUint64(b[16:], uint64(a.key))
	copy(b[24:], a.label.ID[:])
	le.PutUint64(b[40:], a.label.Size)
	le.PutUint64(b[48:], a.label.State.word())
	le.PutUint64(b[56:], uint64(a.domain))
	for i := range a.boot {
		le.PutUint64(b[64+8*i:], a.label.boot[i])
		le.PutUint64(b[80+8*i:], a.boot[i])
	}
	return b
}

// refusal tells the primary why not. It travels as an answer, so that the primary can tell it from a peer that is gone.
func refusal(why error) []byte {
	b := make([]byte, 16, 16+maxText)
	le := binary.LittleEndian
	le.PutUint64(b, helloMagic)
	le.PutUint32(b[8:], helloVersion)
	le.PutUint32(b[12:], 1)
	text := why.Error()
	return append(b, text[:min(len(text), maxText)]...)
}

// printable keeps what would harm a terminal out of a peer's text.
func printable(text []byte) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, string(text[:min(len(text), maxText)]))
}

func (a *answer) decode(b []byte) error {
	le := binary.LittleEndian
	if len(b) >= 16 && le.Uint64(b) == helloMagic && le.Uint32(b[12:]) == 1 {
		return errors.New(printable(b[16:]))
	}
	if err := opening(b, answerSize, "the mirror"); err != nil {
		return err
	}
	*a = answer{key: fabric.Key(le.Uint64(b[16:])),
		label: Label{ID: ID(b[24:40]), Size: le.Uint64(b[40:]), State: stateOf(le.Uint64(b[48:])),
			boot: [2]uint64{le.Uint64(b[64:]), le.Uint64(b[72:])}},
		domain: pmem.Domain(b[56]), boot: [2]uint64{le.Uint64(b[80:]), le.Uint64(b[88:])}}
	if a.key == 0 || a.label.State.Condition > Filling || le.Uint64(b[56:]) > uint64(pmem.EADR) {
		return errors.New("mirror: the mirror's answer makes no sense: no key, or an unknown condition or persistence domain")
	}
	return nil
}

// opening checks what both begin with.
func opening(b []byte, size int, who string) error {
	le := binary.LittleEndian
	if len(b) < 12 || le.Uint64(b) != helloMagic {
		return fmt.Errorf("mirror: %s does not speak of mirrors: is it a node of the datastore, or another program?", who)
	}
	if v := le.Uint32(b[8:]); v != helloVersion {
		return fmt.Errorf("mirror: %s speaks version %d, this program %d: run the same version on both sides", who, v, helloVersion)
	}
	if len(b) != size {
		return fmt.Errorf("mirror: %s sent %d bytes; expected %d", who, len(b), size)
	}
	return nil
}

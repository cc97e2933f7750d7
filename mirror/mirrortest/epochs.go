package mirrortest

import (
	"fmt"

	"whale/mirror"
)

// History is what one thread has done to words that nobody else changes, and judges what a loss of power left of them. It
// shares no code with what it judges.
type History struct {
	tx    *mirror.Tx
	epoch int // of the writes to come; the first is 1
	wrote bool
	words map[uint64][]version
	// durable is the last epoch that a Commit has promised.
	durable int
	next    uint64
}

// version is a value that a word has had, and the epoch that gave it.
type version struct {
	value uint64
	epoch int
}

// NewHistory is empty: all words are zero. salt makes its values differ from those of other histories.
func NewHistory(salt uint64) *History {
	return &History{epoch: 1, words: map[uint64][]version{}, next: salt<<32 + 1}
}

// Begin takes a transaction over.
func (h *History) Begin(tx *mirror.Tx) { h.tx = tx }

// Write writes n words from off on, each with a value of its own: with Store64 if word is set and n is 1, else as bytes.
func (h *History) Write(off uint64, n int, word bool) {
	b := make([]byte, 8*n)
	for i := range n {
		for j := range 8 {
			b[8*i+j] = byte(h.next >> (8 * j))
		}
		at := off + uint64(8*i)
		h.words[at] = append(h.words[at], version{h.next, h.epoch})
		h.next++
	}
	h.wrote = true
	if word && n == 1 {
		h.tx.Store64(off, h.next-1)
	} else {
		h.tx.Write(off, b)
	}
}

// Barrier ends the epoch.
func (h *History) Barrier() {
	h.advance()
	h.tx.Barrier()
}

func (h *History) advance() {
	if h.wrote {
		h.epoch++
		h.wrote = false
	}
}

// Commit ends the transaction.
func (h *History) Commit() error {
	last := h.epoch
	if !h.wrote {
		last--
	}
	h.advance()
	err := h.tx.Commit()
	if err == nil {
		h.durable = last
	}
	return err
}

// Check says why the words are not what a loss of power may leave: a prefix of the epochs, all that were committed among them, and
// any words of the next. load reads a word.
func (h *History) Check(load func(off uint64) uint64) error {
	// Everything before epoch k is there, nothing behind it is; of k itself, any. Each word bounds k.
	low, high := h.durable+1, h.epoch+1
	lowWord, highWord := "a Commit that has returned", "the end of what was written"
	for off, versions := range h.words {
		value := load(off)
		from, to := 0, h.epoch+1
		if value == 0 {
			to = versions[0].epoch
		} else {
			found := false
			for i, v := range versions {
				if v.value == value {
					found, from = true, v.epoch
					if i+1 < len(versions) {
						to = versions[i+1].epoch
					}
				}
			}
			if !found {
				return fmt.Errorf("the word at %d holds %#x, which was never written there", off, value)
			}
		}
		if from > low {
			low, lowWord = from, fmt.Sprintf("the word at %d, which holds what epoch %d wrote", off, from)
		}
		if to < high {
			high, highWord = to, fmt.Sprintf("the word at %d, which lacks what epoch %d wrote", off, to)
		}
	}
	if low > high {
		return fmt.Errorf("epochs are out of order: %s; and %s", lowWord, highWord)
	}
	return nil
}

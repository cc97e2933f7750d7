package plog

const seqBits = 48

// Word is a control word: the low 16 bits of the epoch in the top 16 bits, seq below. One aligned word, so that others
// read both at once. seq must be below 1<<48.
func Word(epoch uint32, seq uint64) uint64 {
	return uint64(epoch)<<seqBits | seq&(1<<seqBits-1)
}

// SplitWord takes a control word apart.
func SplitWord(w uint64) (tag uint16, seq uint64) {
	return uint16(w >> seqBits), w & (1<<seqBits - 1)
}

// SeqIn is the seq of a control word, if the word is of that epoch. A word of another epoch says nothing about this one.
func SeqIn(w uint64, epoch uint32) (seq uint64, ok bool) {
	tag, seq := SplitWord(w)
	if tag != uint16(epoch) {
		return 0, false
	}
	return seq, true
}

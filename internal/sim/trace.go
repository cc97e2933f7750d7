package sim

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"whale/fabric"
	"whale/fabric/simfab"
)

// trace writes a run down as a story: a line an event, a column a member.
type trace struct {
	w     *bufio.Writer
	width int
}

const traceWidth = 44

func newTrace(w io.Writer, r *run) *trace {
	t := &trace{w: bufio.NewWriter(w), width: traceWidth}
	fmt.Fprintf(t.w, "seed %d: %d members, %s, policy %s; a line is an event at a moment of virtual time, a column a member\n", r.seed, r.c.Members, r.c.Protocol, r.c.Policy)
	fmt.Fprintf(t.w, "%14s", "ms ")
	for i := range r.c.Members {
		fmt.Fprintf(t.w, "| %-*s", t.width, memberName(i))
	}
	t.w.WriteByte('\n')
	return t
}

// say tells what happens at a member.
func (r *run) say(m *member, format string, args ...any) {
	if r.trace == nil {
		return
	}
	t := r.trace
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")
	for first := true; text != "" || first; first = false {
		part := text
		if len(part) > t.width {
			cut := strings.LastIndexByte(part[:t.width], ' ') + 1
			if cut == 0 {
				cut = t.width
			}
			part = part[:cut]
		}
		text = text[len(part):]
		at := ""
		if first {
			at = fmt.Sprintf("%d.%06d ", r.now/1e6, r.now%1e6)
		}
		fmt.Fprintf(t.w, "%14s", at)
		for range m.id {
			fmt.Fprintf(t.w, "| %*s", t.width, "")
		}
		fmt.Fprintf(t.w, "| %s\n", part)
	}
}

// landing follows what lands, for the checkers and for the story.
func (r *run) landing() func(simfab.Event) {
	if r.trace == nil && r.check == nil {
		return nil
	}
	by := map[string]*member{}
	return func(e simfab.Event) {
		m := by[e.To]
		if m == nil {
			for _, o := range r.members {
				by[o.name] = o
			}
			m = by[e.To]
		}
		if r.check != nil {
			r.check.landed(m, &e)
		}
		if r.trace != nil {
			r.say(m, "%s from %s", r.describe(&e), e.From)
		}
	}
}

// describe says what an operation carries.
func (r *run) describe(e *simfab.Event) string {
	f := format{slots: ringSlots, segment: segmentSize, segments: uint64(r.c.Segments)}
	off := e.Off + superblocks // a registration begins at the control page
	ring, arena := uint64(superblocks+controlBytes), f.arena()
	switch {
	case e.Kind == fabric.Send:
		return fmt.Sprintf("a message of %d bytes", e.Len)
	case e.Kind == fabric.Flush && e.A == fabric.Durable:
		return "a durable flush"
	case e.Kind == fabric.Flush:
		return "a flush"
	case e.Kind == fabric.Read && off < ring:
		return "a READ of S"
	case e.Kind == fabric.Read:
		return fmt.Sprintf("a READ of %d bytes at %d", e.Len, off-arena)
	case off < ring && off-superblocks < 512:
		return "S and DW"
	case off < ring:
		return "a report"
	case off < arena && e.Len > lineBytes:
		return fmt.Sprintf("slots %d to %d", (off-ring)/lineBytes, (off-ring+e.Len)/lineBytes-1)
	case off < arena:
		return fmt.Sprintf("slot %d", (off-ring)/lineBytes)
	}
	return fmt.Sprintf("%d bytes of data at %d", e.Len, off-arena)
}

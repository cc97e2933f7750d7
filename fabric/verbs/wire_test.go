package verbs

import (
	"bytes"
	"strings"
	"testing"

	"whale/pmem"
)

func someOffer() offer {
	return offer{
		qpn: 0x123456, psn: 0xfedcba, lid: 0x1234, mtu: 3, link: 2, features: flushVisible | atomics, domain: pmem.ADR, responder: 16, initiator: 9,
		scratchKey: 0x89abcdef, scratch: 0x1122334455667788, gid: [16]byte{0xfe, 0x80, 15: 7},
	}
}

func TestOfferComesBack(t *testing.T) {
	o := someOffer()
	got, rest, err := decodeOffer(append(o.encode(), "hello"...))
	if err != nil || got != o || string(rest) != "hello" {
		t.Errorf("%+v, %q, %v", got, rest, err)
	}
}

func TestOfferIsChecked(t *testing.T) {
	good := someOffer()
	for name, c := range map[string]struct {
		break_ func(b []byte)
		want   string
	}{
		"version":   {func(b []byte) { b[0] = 2 }, "version 2"},
		"features":  {func(b []byte) { b[1] = 0x80 }, "unknown features"},
		"domain":    {func(b []byte) { b[2] = byte(pmem.EADR) + 1 }, "domain"},
		"reserved":  {func(b []byte) { b[10] = 1 }, "unknown"},
		"no mtu":    {func(b []byte) { b[4] = 0 }, "mtu 0"},
		"mtu":       {func(b []byte) { b[4] = 6 }, "mtu 6"},
		"responder": {func(b []byte) { b[5] = 0 }, "depths 0"},
		"initiator": {func(b []byte) { b[6] = 0 }, "and 0"},
		"no number": {func(b []byte) { clear(b[12:16]) }, "number 0x0"},
		"number":    {func(b []byte) { b[15] = 1 }, "number 0x1123456"},
		"packet":    {func(b []byte) { b[19] = 1 }, "packet 0x1fedcba"},
	} {
		b := good.encode()
		c.break_(b)
		if _, _, err := decodeOffer(b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, expected %q in it", name, err, c.want)
		}
	}
	for n := range offerSize {
		if _, _, err := decodeOffer(good.encode()[:n]); err == nil {
			t.Errorf("%d bytes are an offer", n)
		}
	}
}

// FuzzOffer: what is taken is exactly what it says.
func FuzzOffer(f *testing.F) {
	o := someOffer()
	f.Add(o.encode())
	f.Add(append(o.encode(), 1, 2, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, rest, err := decodeOffer(b)
		if err != nil {
			return
		}
		if again := append(o.encode(), rest...); !bytes.Equal(again, b) {
			t.Errorf("%x came back as %x", b, again)
		}
		if p := planFor(allFeatures, &o); p.domain > o.domain || p.flushNative && o.features&flushDurable == 0 {
			t.Errorf("%+v of %+v", p, o)
		}
	})
}

// TestPlan: a durable flush is what both ends can do and the memory needs, or nothing.
func TestPlan(t *testing.T) {
	full := feature(flushVisible | flushDurable | atomicWrite | atomics)
	for name, c := range map[string]struct {
		mine, theirs feature
		domain       pmem.Domain
		want         plan
	}{
		"all":                            {full, full, pmem.ADR, plan{true, true, true, true, pmem.ADR, false}},
		"the peer has no FLUSH":          {full, atomics, pmem.ADR, plan{atomics: true, domain: pmem.None}},
		"nor I":                          {0, full, pmem.ADR, plan{domain: pmem.None}},
		"but it writes past the caches":  {0, directWrite, pmem.ADR, plan{domain: pmem.ADR, nonTemporal: true}},
		"which I say of my own memory":   {directWrite, 0, pmem.ADR, plan{domain: pmem.None}},
		"caches are in the domain":       {0, 0, pmem.EADR, plan{domain: pmem.EADR, nonTemporal: true}},
		"and FLUSH is there":             {full, full, pmem.EADR, plan{true, true, true, true, pmem.EADR, true}},
		"a file":                         {0, 0, pmem.FileShared, plan{domain: pmem.FileShared, nonTemporal: true}},
		"a file needs no FLUSH":          {full, full, pmem.FileShared, plan{true, false, true, true, pmem.FileShared, true}},
		"memory that survives nothing":   {full, full | directWrite, pmem.None, plan{true, false, true, true, pmem.None, false}},
		"visible only, and past caches":  {flushVisible, flushVisible | directWrite, pmem.ADR, plan{flush: true, domain: pmem.ADR, nonTemporal: true}},
		"visible only is not persistent": {flushVisible, full, pmem.ADR, plan{flush: true, domain: pmem.None}},
	} {
		if got := planFor(c.mine, &offer{features: c.theirs, domain: c.domain}); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

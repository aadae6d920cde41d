// SPDX-License-Identifier: Apache-2.0

// pebbled: pebble, Let's Encrypt's test authority, as a process on a port of its own, and the DNS that it asks: every name
// is 127.0.0.1.  pebbled HTTP_PORT ROOT_FILE DAYS CERT KEY: challenges are asked at that port; writes the root certificate,
// prints the address of its directory.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answer(w dns.ResponseWriter, question *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(question)
	for _, q := range question.Question {
		if q.Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET},
				A:   net.IPv4(127, 0, 0, 1)})
		}
	}
	_ = w.WriteMsg(m)
}

func main() {
	port, err := strconv.Atoi(os.Args[1])
	fail(err)
	days, err := strconv.Atoi(os.Args[3])
	fail(err)
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	fail(err)
	names := &dns.Server{PacketConn: udp, Handler: dns.HandlerFunc(answer)}
	go func() { fail(names.ActivateAndServe()) }()

	logger := log.New(os.Stderr, "", log.LstdFlags)
	store := db.NewMemoryStore()
	authority := ca.New(logger, store, "", 0, 1, uint64(days)*86400)
	validator := va.New(logger, port, port, false, udp.LocalAddr().String(), store)
	front := wfe.New(logger, store, validator, authority, false, false, 1, 1)
	fail(os.WriteFile(os.Args[2], authority.GetRootCert(0).PEM(), 0o644))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	fail(err)
	fmt.Printf("https://%s%s\n", listener.Addr(), wfe.DirectoryPath)
	fail(http.ServeTLS(listener, front.Handler(), os.Args[4], os.Args[5]))
}

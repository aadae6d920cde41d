// SPDX-License-Identifier: Apache-2.0

// pstestd: Google's own fake of Pub/Sub (package pstest) as a process.
package main

import (
	"fmt"
	"net"
	"os"

	pb "cloud.google.com/go/pubsub/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/pstest"
	"google.golang.org/grpc"
)

func main() {
	fake := pstest.NewServer()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// The service takes 10 MB; the library's default is 4.
	server := grpc.NewServer(grpc.MaxRecvMsgSize(32 << 20))
	pb.RegisterPublisherServer(server, &fake.GServer)
	pb.RegisterSubscriberServer(server, &fake.GServer)
	fmt.Println(listener.Addr())
	if err := server.Serve(listener); err != nil {
		os.Exit(1)
	}
}

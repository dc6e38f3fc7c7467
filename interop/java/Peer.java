import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.Serializable;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.UnknownHostException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

import org.apache.catalina.tribes.ByteMessage;
import org.apache.catalina.tribes.Channel;
import org.apache.catalina.tribes.ChannelException;
import org.apache.catalina.tribes.ChannelInterceptor;
import org.apache.catalina.tribes.ChannelListener;
import org.apache.catalina.tribes.ChannelMessage;
import org.apache.catalina.tribes.ErrorHandler;
import org.apache.catalina.tribes.Member;
import org.apache.catalina.tribes.MembershipListener;
import org.apache.catalina.tribes.MembershipService;
import org.apache.catalina.tribes.UniqueId;
import org.apache.catalina.tribes.group.ChannelInterceptorBase;
import org.apache.catalina.tribes.group.GroupChannel;
import org.apache.catalina.tribes.group.Response;
import org.apache.catalina.tribes.group.RpcCallback;
import org.apache.catalina.tribes.group.RpcChannel;
import org.apache.catalina.tribes.group.interceptors.DomainFilterInterceptor;
import org.apache.catalina.tribes.group.interceptors.EncryptInterceptor;
import org.apache.catalina.tribes.group.interceptors.FragmentationInterceptor;
import org.apache.catalina.tribes.group.interceptors.GzipInterceptor;
import org.apache.catalina.tribes.group.interceptors.MessageDispatchInterceptor;
import org.apache.catalina.tribes.group.interceptors.NonBlockingCoordinator;
import org.apache.catalina.tribes.group.interceptors.OrderInterceptor;
import org.apache.catalina.tribes.group.interceptors.SimpleCoordinator;
import org.apache.catalina.tribes.group.interceptors.StaticMembershipInterceptor;
import org.apache.catalina.tribes.group.interceptors.TcpFailureDetector;
import org.apache.catalina.tribes.group.interceptors.TcpPingInterceptor;
import org.apache.catalina.tribes.group.interceptors.ThroughputInterceptor;
import org.apache.catalina.tribes.group.interceptors.TwoPhaseCommitInterceptor;
import org.apache.catalina.tribes.membership.McastService;
import org.apache.catalina.tribes.membership.StaticMember;
import org.apache.catalina.tribes.membership.StaticMembershipService;
import org.apache.catalina.tribes.transport.ReceiverBase;
import org.apache.catalina.tribes.transport.ReplicationTransmitter;

/**
 * A member of a group on the real Apache Tribes, driven line by line.
 *
 * <p>It takes the options of {@code tribes node}, reads the same commands from standard input and writes the same
 * events, one JSON object a line, to standard output; logs go to standard error. So the driver treats a Java member
 * and one of ours alike. What only this peer knows: the command {@code silence} (stop announcing oneself without saying
 * goodbye) and the events {@code silenced}, {@code probe_sent} and {@code probe_received} (the failure detector's),
 * {@code ping_sent} and {@code ping_received}.
 *
 * <p>Start it with {@code -Djava.net.preferIPv4Stack=true}: a dual-stack socket bound to a multicast group cannot send
 * on recent Linux kernels.
 */
public final class Peer {
    /** Bodies up to this many bytes are shown in a {@code message} event. */
    private static final int SHOWN = 256;
    /** Bytes handed to the dispatcher and not yet sent; half of its queue, for a full one sends behind our back. */
    private static final int IN_FLIGHT = 32 << 20;
    /** How long a send may take, acknowledgement included, in milliseconds. */
    private static final long SEND_TIMEOUT = 15_000;
    /** How long after the last asynchronous send its outcome may take. */
    private static final long OUTCOME_SECONDS = 60;

    private final Settings settings;
    private final Out out;
    private final GroupChannel channel = new GroupChannel();
    private final Incoming incoming = new Incoming();
    private final ExecutorService echoes = Executors.newSingleThreadExecutor();
    private final Stats stats = new Stats();
    private RpcChannel rpc;

    private Peer(Settings settings, Out out) {
        this.settings = settings;
        this.out = out;
    }

    public static void main(String[] args) {
        Out out = new Out();
        int status = 0;
        try {
            Peer peer = new Peer(Settings.parse(args), out);
            peer.start();
            peer.obey();
        } catch (Exception e) {
            e.printStackTrace();
            out.error(e);
            status = 1;
        }
        // Tribes leaves threads behind that would keep the process alive.
        Runtime.getRuntime().halt(status);
    }

    // ---------------------------------------------------------------- life

    private void start() throws Exception {
        channel.setJmxEnabled(false);
        if (settings.name != null) {
            channel.setName(settings.name);
        }
        ReceiverBase receiver = (ReceiverBase) channel.getChannelReceiver();
        receiver.setAddress(settings.host);
        receiver.setPort(settings.port == 0 ? freePort(settings.host) : settings.port);
        receiver.setAutoBind(settings.autoBind);
        receiver.setUdpPort(settings.udpPort);
        // The buffer pool takes a frame's buffer back after its acknowledgement has gone. The fragmentation interceptor
        // keeps the frame of the first piece for the whole message, which then may lose its body while it is put together.
        receiver.setUseBufferPool(settings.interceptors.stream().noneMatch(spec -> spec.startsWith("fragmentation")));

        // Three seconds by default, which a large body takes on a machine that is busy with other things.
        ((ReplicationTransmitter) channel.getChannelSender()).getTransport().setTimeout(SEND_TIMEOUT);

        if (!settings.alone()) {
            channel.setMembershipService(settings.peers.isEmpty() ? multicast() : fixed(receiver.getPort()));
        }

        channel.addInterceptor(incoming);
        for (String spec : settings.interceptors) {
            channel.addInterceptor(interceptor(spec));
        }
        channel.addMembershipListener(new Members());
        channel.addChannelListener(new Messages());
        if (settings.rpc != null) {
            rpc = new RpcChannel(settings.rpc.getBytes(StandardCharsets.UTF_8), channel, new Answers());
        }
        channel.start(settings.alone() ? Channel.SND_RX_SEQ | Channel.SND_TX_SEQ : Channel.DEFAULT);
        out.event("ready", "local", member(channel.getLocalMember(true)));
    }

    private MembershipService multicast() throws IOException {
        McastService service = new McastService();
        service.setAddress(settings.group);
        service.setPort(settings.groupPort);
        service.setBind(settings.host);
        service.setFrequency(settings.frequency);
        service.setDropTime(settings.drop);
        if (settings.id != null) {
            throw new IllegalArgumentException("--id needs --peer: a multicast member's id is drawn by Tribes");
        }
        if (settings.domain != null) {
            service.setDomain(settings.domain);
        }
        if (settings.payload != null) {
            service.setPayload(settings.payload);
        }
        return service;
    }

    private MembershipService fixed(int port) throws IOException {
        StaticMembershipService service = new StaticMembershipService();
        service.setLocalMember(fixedLocal(port));
        for (StaticMember peer : settings.peers) {
            service.addStaticMember(peer);
        }
        return service;
    }

    private StaticMember fixedLocal(int port) throws IOException {
        StaticMember local = new StaticMember(settings.host, port, 0);
        if (settings.id != null) {
            local.setUniqueId(settings.id);
        }
        if (settings.domain != null) {
            local.setDomain(settings.domain);
        }
        if (settings.payload != null) {
            local.setPayload(settings.payload);
        }
        local.setLocal(true);
        return local;
    }

    private static int freePort(String host) throws IOException {
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getByName(host))) {
            return socket.getLocalPort();
        }
    }

    private void stop() throws ChannelException {
        channel.stop(Channel.DEFAULT);
        out.event("stopped");
    }

    // ---------------------------------------------------------------- commands

    /** Carries out the commands on standard input, one after another, until {@code stop} or the end of input. */
    private void obey() throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String line;
        while ((line = in.readLine()) != null) {
            String[] words = line.trim().split("\\s+");
            try {
                switch (words[0]) {
                    case "" -> { }
                    case "members" -> members();
                    case "send" -> send(words);
                    case "call" -> call(words);
                    case "stats" -> stats.print();
                    case "silence" -> silence();
                    case "stop" -> {
                        stop();
                        return;
                    }
                    default -> throw new IllegalArgumentException("unknown command '" + words[0] + "'");
                }
            } catch (IllegalArgumentException | IOException e) {
                out.error(e);
            }
        }
        stop();
    }

    private void members() {
        List<Raw> all = new ArrayList<>();
        for (Member m : channel.getMembers()) {
            all.add(member(m));
        }
        out.event("members", "members", all);
    }

    /** Stops the broadcaster alone. Tribes says goodbye only when the last of its two halves stops. */
    private void silence() {
        if (!(channel.getMembershipService() instanceof McastService service)) {
            throw new IllegalArgumentException("silence needs multicast membership");
        }
        service.stop(Channel.MBR_TX_SEQ);
        out.event("silenced");
    }

    private void send(String[] words) throws IOException {
        if (words.length < 3) {
            throw new IllegalArgumentException("send OPTIONS PAYLOAD [COUNT] [to=ID,...]");
        }
        int options = options(words[1]);
        int count = 1;
        Member[] to = channel.getMembers();
        for (String word : Arrays.asList(words).subList(3, words.length)) {
            if (word.startsWith("to=")) {
                to = named(word.substring(3));
            } else {
                count = Integer.parseInt(word);
            }
        }
        Payload payload = Payload.parse(words[2], count);

        Outcomes outcomes = new Outcomes();
        boolean queued = (options & Channel.SEND_OPTIONS_ASYNCHRONOUS) != 0 && dispatches();
        byte[] body = new byte[0];
        for (int k = 0; k < count; k++) {
            body = payload.body(k);
            if (queued) {
                outcomes.queue(to, body, options);
            } else {
                try {
                    channel.send(to, new ByteMessage(body), options);
                } catch (ChannelException e) {
                    outcomes.failed(e);
                }
            }
        }
        outcomes.await();
        stats.sent.addAndGet(count);
        stats.failed.addAndGet(outcomes.failed);
        out.event("sent", "count", count, "failed", outcomes.failed, "sha256", sha256(body), "why", outcomes.why());
    }

    // ---------------------------------------------------------------- questions

    private void call(String[] words) throws IOException {
        if (words.length < 5) {
            throw new IllegalArgumentException("call WAIT FORM PAYLOAD TIME [to=ID,...] [rpc=ID]");
        }
        int wait = switch (words[1]) {
            case "first" -> RpcChannel.FIRST_REPLY;
            case "majority" -> RpcChannel.MAJORITY_REPLY;
            case "all" -> RpcChannel.ALL_REPLY;
            case "none" -> RpcChannel.NO_REPLY;
            default -> throw new IllegalArgumentException("unknown wait '" + words[1] + "'");
        };
        byte[] body = Payload.parse(words[3], 1).body(0);
        Serializable request = switch (words[2]) {
            case "null" -> null;
            case "message" -> new ByteMessage(body);
            case "bytes" -> body;
            case "text" -> words[3].startsWith("text:") ? new String(body, StandardCharsets.UTF_8) : hex(body);
            default -> throw new IllegalArgumentException("unknown form '" + words[2] + "'");
        };
        Member[] to = channel.getMembers();
        RpcChannel other = null;
        for (String word : Arrays.asList(words).subList(5, words.length)) {
            if (word.startsWith("to=")) {
                to = named(word.substring(3));
            } else if (word.startsWith("rpc=")) {
                other = new RpcChannel(word.substring(4).getBytes(StandardCharsets.UTF_8), channel, new Answers());
            } else {
                throw new IllegalArgumentException("one word too many: " + word);
            }
        }
        long begin = System.nanoTime();
        try {
            Response[] responses = (other != null ? other : rpc).send(to, request, wait, 0, Settings.millis(words[4]));
            long ms = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - begin);
            List<Raw> answers = new ArrayList<>();
            for (Response response : responses) {
                answers.add(Out.object(told("member", response.getSource(), response.getMessage())));
            }
            out.event("called", "ms", ms, "answers", answers);
        } catch (ChannelException e) {
            out.error(e);
        } finally {
            if (other != null) {
                other.breakdown();
            }
        }
    }

    /** Answers each request with itself, as {@code tribes node --rpc} does. */
    private final class Answers implements RpcCallback {
        @Override
        public Serializable replyRequest(Serializable request, Member sender) {
            out.event("request", told("from", sender, request));
            if ("fail".equals(request)) {
                throw new IllegalStateException("as the request wishes");
            }
            return "null".equals(request) ? null : request;
        }

        @Override
        public void leftOver(Serializable reply, Member sender) {
            out.event("left_over", told("from", sender, reply));
        }
    }

    private static Object[] told(String who, Member member, Serializable what) {
        byte[] body = new byte[0];
        String form = "null";
        if (what instanceof String text) {
            body = text.getBytes(StandardCharsets.UTF_8);
            form = "text";
        } else if (what instanceof byte[] bytes) {
            body = bytes;
            form = "bytes";
        } else if (what instanceof ByteMessage message) {
            body = message.getMessage();
            form = "message";
        } else if (what != null) {
            form = what.getClass().getName();
        }
        return new Object[] { who, hex(member.getUniqueId()), "answer", "replied", "form", form, "len", body.length,
                "sha256", sha256(body) };
    }

    private boolean dispatches() {
        for (var all = channel.getInterceptors(); all.hasNext();) {
            if (all.next() instanceof MessageDispatchInterceptor) {
                return true;
            }
        }
        return false;
    }

    private Member[] named(String ids) {
        List<Member> found = new ArrayList<>();
        for (String id : ids.split(",")) {
            Member match = null;
            for (Member m : channel.getMembers()) {
                if (hex(m.getUniqueId()).equals(id)) {
                    match = m;
                }
            }
            if (match == null) {
                throw new IllegalArgumentException("no member with id " + id);
            }
            found.add(match);
        }
        return found.toArray(Member[]::new);
    }

    private static int options(String text) {
        if (Character.isDigit(text.charAt(0))) {
            return Integer.decode(text);
        }
        int options = 0;
        for (String name : text.split(",")) {
            options |= switch (name) {
                case "none" -> 0;
                case "byte", "byte_message" -> Channel.SEND_OPTIONS_BYTE_MESSAGE;
                case "ack", "use_ack" -> Channel.SEND_OPTIONS_USE_ACK;
                case "sync", "synchronized_ack" -> Channel.SEND_OPTIONS_SYNCHRONIZED_ACK;
                case "async", "asynchronous" -> Channel.SEND_OPTIONS_ASYNCHRONOUS;
                case "secure" -> Channel.SEND_OPTIONS_SECURE;
                case "udp" -> Channel.SEND_OPTIONS_UDP;
                case "multicast" -> Channel.SEND_OPTIONS_MULTICAST;
                default -> throw new IllegalArgumentException("unknown send option '" + name + "'");
            };
        }
        return options;
    }

    /** What became of the messages of one {@code send} command. */
    private final class Outcomes {
        private final Semaphore room = new Semaphore(IN_FLIGHT);
        private final Set<String> reasons = new LinkedHashSet<>();
        private int failed;

        /** Hands a message to the dispatcher; waits while too many bytes are on their way. */
        void queue(Member[] to, byte[] body, int options) {
            int cost = Math.min(body.length + 1, IN_FLIGHT);
            room.acquireUninterruptibly(cost);
            ErrorHandler handler = new ErrorHandler() {
                @Override
                public void handleError(ChannelException e, UniqueId id) {
                    failed(e);
                    room.release(cost);
                }

                @Override
                public void handleCompletion(UniqueId id) {
                    room.release(cost);
                }
            };
            try {
                channel.send(to, new ByteMessage(body), options, handler);
            } catch (ChannelException e) {
                handler.handleError(e, null);
            }
        }

        synchronized void failed(ChannelException e) {
            failed++;
            if (e.getFaultyMembers().length == 0) {
                reasons.add(e.toString());
            }
            for (ChannelException.FaultyMember faulty : e.getFaultyMembers()) {
                reasons.add(hex(faulty.getMember().getUniqueId()) + ": " + faulty.getCause());
            }
        }

        void await() throws IOException {
            try {
                if (!room.tryAcquire(IN_FLIGHT, OUTCOME_SECONDS, TimeUnit.SECONDS)) {
                    throw new IOException("no outcome of an asynchronous send within " + OUTCOME_SECONDS + " s");
                }
            } catch (InterruptedException e) {
                throw new IOException(e);
            }
        }

        synchronized String why() {
            return String.join("; ", reasons);
        }
    }

    // ---------------------------------------------------------------- events

    private final class Members implements MembershipListener {
        @Override
        public void memberAdded(Member m) {
            out.event("member_added", "member", member(m));
        }

        @Override
        public void memberDisappeared(Member m) {
            boolean shutdown = Arrays.equals(m.getCommand(), Member.SHUTDOWN_PAYLOAD);
            out.event("member_removed", "member", member(m), "reason", shutdown ? "shutdown" : "failed");
        }
    }

    private final class Messages implements ChannelListener {
        @Override
        public boolean accept(Serializable message, Member sender) {
            return message instanceof ByteMessage;
        }

        @Override
        public void messageReceived(Serializable message, Member sender) {
            byte[] body = ((ByteMessage) message).getMessage();
            ChannelMessage envelope = incoming.current.get();
            stats.received.incrementAndGet();
            stats.receivedBytes.addAndGet(body.length);
            out.event("message", "from", hex(sender.getUniqueId()), "options", envelope.getOptions(),
                    "id", hex(envelope.getUniqueId()), "len", body.length, "sha256", sha256(body),
                    "bytes", body.length <= SHOWN ? hex(body) : null);
            if (body.length == settings.failLength) {
                throw new IllegalStateException("the listener refuses bodies of " + body.length + " bytes");
            }
            if (settings.echo) {
                echoes.execute(() -> echo(sender, body));
            }
        }

        private void echo(Member sender, byte[] body) {
            try {
                channel.send(new Member[] { sender }, new ByteMessage(body), Channel.SEND_OPTIONS_USE_ACK);
            } catch (ChannelException e) {
                out.error(e);
            }
        }
    }

    /** The topmost interceptor: remembers the envelope, which listeners do not see, for the listener's thread. */
    private static final class Incoming extends ChannelInterceptorBase {
        final ThreadLocal<ChannelMessage> current = new ThreadLocal<>();

        @Override
        public void messageReceived(ChannelMessage message) {
            current.set(message);
            try {
                super.messageReceived(message);
            } finally {
                current.remove();
            }
        }
    }

    /** Tribes' own detector, unchanged, that reports each probe it makes and each it is asked to answer. */
    private final class WatchedFailureDetector extends TcpFailureDetector {
        @Override
        protected boolean memberAlive(Member m, byte[] data, boolean sendTest, boolean readTest, long readTimeout,
                long connectTimeout, int flag) {
            boolean alive = super.memberAlive(m, data, sendTest, readTest, readTimeout, connectTimeout, flag);
            stats.probesSent.incrementAndGet();
            out.event("probe_sent", "to", hex(m.getUniqueId()), "alive", alive);
            return alive;
        }

        @Override
        public void messageReceived(ChannelMessage message) {
            boolean probe = okToProcess(message.getOptions())
                    && Arrays.equals(TCP_FAIL_DETECT, message.getMessage().getBytes());
            if (probe) {
                stats.probesReceived.incrementAndGet();
                out.event("probe_received", "from", hex(message.getAddress().getUniqueId()));
            }
            super.messageReceived(message);
        }
    }

    /** Tribes' own ping, on a thread of its own, that reports each ping it sends and each it receives. */
    private final class WatchedPing extends TcpPingInterceptor {
        WatchedPing() {
            setUseThread(true);
        }

        @Override
        protected void sendPingMessage(Member[] members) {
            for (Member m : members) {
                out.event("ping_sent", "to", hex(m.getUniqueId()));
            }
            super.sendPingMessage(members);
        }

        @Override
        public void messageReceived(ChannelMessage message) {
            if (okToProcess(message.getOptions()) && Arrays.equals(TCP_PING_DATA, message.getMessage().getBytes())) {
                out.event("ping_received", "from", hex(message.getAddress().getUniqueId()),
                        "options", message.getOptions());
            }
            super.messageReceived(message);
        }
    }

    /** Tribes' own election, that tells of each view it takes over, as {@code tribes node} does. */
    private final class WatchedCoordinator extends NonBlockingCoordinator {
        @Override
        public void fireInterceptorEvent(InterceptorEvent event) {
            super.fireInterceptorEvent(event);
            if (event.getEventType() == CoordinationEvent.EVT_CONF_RX) {
                coordinator(getView());
            }
        }
    }

    /** Tribes' own election by looking only. */
    private final class WatchedSimpleCoordinator extends SimpleCoordinator {
        @Override
        protected void viewChange(Member[] view) {
            super.viewChange(view);
            coordinator(view);
        }
    }

    private void coordinator(Member[] view) {
        List<String> ids = new ArrayList<>();
        for (Member m : view) {
            ids.add(hex(m.getUniqueId()));
        }
        out.event("coordinator", "id", ids.isEmpty() ? null : ids.get(0), "view", ids);
    }

    /** Tribes' own static members, from a text; with an id, the local member is one, too. */
    private final class FixedMembers extends StaticMembershipInterceptor {
        FixedMembers() throws IOException {
            if (settings.id != null) {
                setLocalMember(fixedLocal(settings.port));
            }
        }

        /** {@code HOST:PORT[@ID]}, joined by {@code +}. */
        public void setMembers(String text) throws IOException {
            for (String one : text.split("\\+")) {
                addStaticMember(Settings.peer(one));
            }
        }
    }

    private final class Stats {
        final AtomicLong sent = new AtomicLong();
        final AtomicLong failed = new AtomicLong();
        final AtomicLong received = new AtomicLong();
        final AtomicLong receivedBytes = new AtomicLong();
        final AtomicLong probesSent = new AtomicLong();
        final AtomicLong probesReceived = new AtomicLong();

        void print() {
            out.event("stats", "sent", sent.get(), "failed", failed.get(), "received", received.get(),
                    "received_bytes", receivedBytes.get(), "probes_sent", probesSent.get(),
                    "probes_received", probesReceived.get());
        }
    }

    // ---------------------------------------------------------------- interceptors

    /** {@code NAME[,key=value]...}: keys are bean properties in snake case. */
    private ChannelInterceptor interceptor(String spec) throws IOException {
        String[] parts = spec.split(",");
        ChannelInterceptor made = switch (parts[0]) {
            case "message-dispatch" -> new MessageDispatchInterceptor();
            case "tcp-failure-detector" -> new WatchedFailureDetector();
            case "tcp-ping" -> new WatchedPing();
            case "static-members" -> new FixedMembers();
            case "gzip" -> new GzipInterceptor();
            case "fragmentation" -> new FragmentationInterceptor();
            case "order" -> new OrderInterceptor();
            case "encrypt" -> new EncryptInterceptor();
            case "coordinator" -> new WatchedCoordinator();
            case "simple-coordinator" -> new WatchedSimpleCoordinator();
            case "domain-filter" -> new DomainFilterInterceptor();
            case "throughput" -> new ThroughputInterceptor();
            case "two-phase-commit" -> new TwoPhaseCommitInterceptor();
            default -> throw new IllegalArgumentException("unknown interceptor '" + parts[0] + "'");
        };
        for (String attribute : Arrays.asList(parts).subList(1, parts.length)) {
            String[] pair = attribute.split("=", 2);
            set(made, pair[0], pair.length == 2 ? pair[1] : "true");
        }
        return made;
    }

    private static void set(Object bean, String key, String value) {
        if (bean instanceof EncryptInterceptor && key.equals("legacy")) {
            // It takes every algorithm without being asked twice.
            return;
        }
        String property = switch (key) {
            case "read_test" -> "perform_read_test";
            case "send_test" -> "perform_send_test";
            case "algorithm" -> "encryption_algorithm";
            case "key" -> "encryption_key";
            default -> key;
        };
        StringBuilder setter = new StringBuilder("set");
        for (String word : property.split("_")) {
            setter.append(Character.toUpperCase(word.charAt(0))).append(word.substring(1));
        }
        for (Method method : bean.getClass().getMethods()) {
            if (method.getName().contentEquals(setter) && method.getParameterCount() == 1) {
                Class<?> type = method.getParameterTypes()[0];
                try {
                    if (type == boolean.class) {
                        method.invoke(bean, Boolean.parseBoolean(value));
                    } else if (type == int.class) {
                        method.invoke(bean, Integer.parseInt(value));
                    } else if (type == long.class) {
                        boolean unit = !Character.isDigit(value.charAt(value.length() - 1));
                        method.invoke(bean, unit ? Settings.millis(value) : Long.parseLong(value));
                    } else if (type == String.class) {
                        method.invoke(bean, value);
                    } else {
                        continue;
                    }
                } catch (IllegalAccessException | InvocationTargetException e) {
                    throw new IllegalArgumentException(key + "=" + value, e);
                }
                return;
            }
        }
        throw new IllegalArgumentException("unknown attribute '" + key + "'");
    }

    // ---------------------------------------------------------------- settings

    private static final class Settings {
        String host = "127.0.0.1";
        int port = 4000;
        int autoBind = 100;
        int udpPort = -1;
        byte[] id;
        String name;
        boolean multicast;
        String group = "228.0.0.4";
        int groupPort = 45564;
        long frequency = 500;
        long drop = 3000;
        final List<StaticMember> peers = new ArrayList<>();
        /** Tomcat's own stack, until an option says otherwise. */
        List<String> interceptors = List.of("message-dispatch", "tcp-failure-detector");
        String domain;
        byte[] payload;
        boolean echo;
        int failLength = -1;
        String rpc;

        static Settings parse(String[] args) throws IOException {
            Settings s = new Settings();
            List<String> interceptors = new ArrayList<>();
            boolean defaults = true;
            for (int i = 0; i < args.length; i++) {
                String option = args[i];
                switch (option) {
                    case "--echo" -> {
                        s.echo = true;
                        continue;
                    }
                    case "--no-default-interceptors" -> {
                        defaults = false;
                        continue;
                    }
                    default -> { }
                }
                if (++i == args.length) {
                    throw new IllegalArgumentException("unknown option, or one without its value: " + option);
                }
                String value = args[i];
                switch (option) {
                    case "--bind" -> {
                        s.host = host(value);
                        s.port = port(value);
                    }
                    case "--auto-bind" -> s.autoBind = Integer.parseInt(value);
                    case "--udp" -> s.udpPort = Integer.parseInt(value);
                    case "--id" -> s.id = id(value);
                    case "--name" -> s.name = value;
                    case "--mcast" -> {
                        s.multicast = true;
                        s.group = host(value);
                        s.groupPort = port(value);
                    }
                    case "--mcast-frequency" -> s.frequency = millis(value);
                    case "--mcast-drop" -> s.drop = millis(value);
                    case "--peer" -> s.peers.add(peer(value));
                    case "--interceptor" -> interceptors.add(value);
                    case "--domain" -> s.domain = value;
                    case "--payload" -> s.payload = HexFormat.of().parseHex(value);
                    case "--rpc" -> s.rpc = value;
                    case "--fail-len" -> s.failLength = Integer.parseInt(value);
                    default -> throw new IllegalArgumentException("unknown option " + option);
                }
            }
            if (!defaults || !interceptors.isEmpty()) {
                s.interceptors = interceptors;
            }
            return s;
        }

        /** With static members and nothing else to find members by: no membership service runs at all. */
        boolean alone() {
            return !multicast && peers.isEmpty()
                    && interceptors.stream().anyMatch(spec -> spec.startsWith("static-members"));
        }

        private static String host(String hostPort) {
            return hostPort.substring(0, Math.max(0, hostPort.lastIndexOf(':')));
        }

        private static int port(String hostPort) {
            return Integer.parseInt(hostPort.substring(hostPort.lastIndexOf(':') + 1));
        }

        private static byte[] id(String hex) {
            byte[] id = HexFormat.of().parseHex(hex);
            if (id.length != 16) {
                throw new IllegalArgumentException("an id has 16 bytes, not " + id.length);
            }
            return id;
        }

        private static StaticMember peer(String text) throws IOException {
            String[] parts = text.split("@", 2);
            StaticMember member = new StaticMember(host(parts[0]), port(parts[0]), 0);
            if (parts.length == 2) {
                member.setUniqueId(id(parts[1]));
            }
            return member;
        }

        private static long millis(String text) {
            int digits = 0;
            while (digits < text.length() && Character.isDigit(text.charAt(digits))) {
                digits++;
            }
            long number = Long.parseLong(text.substring(0, digits));
            return switch (text.substring(digits)) {
                case "ms" -> number;
                case "s" -> TimeUnit.SECONDS.toMillis(number);
                case "m" -> TimeUnit.MINUTES.toMillis(number);
                default -> throw new IllegalArgumentException("a duration needs a unit (ms, s, m): " + text);
            };
        }
    }

    // ---------------------------------------------------------------- bodies

    /** The bodies of one {@code send} command: {@code hex:}, {@code text:}, {@code file:} or {@code size:N[:SEED]}. */
    private interface Payload {
        byte[] body(long number);

        static Payload parse(String text, int count) throws IOException {
            String[] parts = text.split(":", 2);
            String value = parts.length == 2 ? parts[1] : "";
            return switch (parts[0]) {
                case "hex" -> constant(HexFormat.of().parseHex(value));
                case "text" -> constant(value.getBytes(StandardCharsets.UTF_8));
                case "file" -> constant(Files.readAllBytes(Path.of(value)));
                case "size" -> {
                    String[] numbers = value.split(":", 2);
                    int size = Integer.parseInt(numbers[0]);
                    long seed = numbers.length == 2 ? Long.parseUnsignedLong(numbers[1]) : 1;
                    yield number -> pattern(size, seed, number, count > 1);
                }
                default -> throw new IllegalArgumentException("unknown payload '" + text + "'");
            };
        }

        private static Payload constant(byte[] body) {
            return number -> body;
        }

        /** The driver's pattern: xorshift64 from the seed, with the message's number in front when it is numbered. */
        private static byte[] pattern(int size, long seed, long number, boolean numbered) {
            byte[] body = new byte[size];
            long x = (seed + number) * 0x9E3779B97F4A7C15L + 1;
            for (int i = 0; i < size; i++) {
                x ^= x << 13;
                x ^= x >>> 7;
                x ^= x << 17;
                body[i] = (byte) (x >>> 56);
            }
            if (numbered && size >= Long.BYTES) {
                for (int i = 0; i < Long.BYTES; i++) {
                    body[i] = (byte) (number >>> (56 - 8 * i));
                }
            }
            return body;
        }
    }

    private static String hex(byte[] bytes) {
        return HexFormat.of().formatHex(bytes);
    }

    private static String sha256(byte[] bytes) {
        try {
            return hex(MessageDigest.getInstance("SHA-256").digest(bytes));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every Java platform has SHA-256", e);
        }
    }

    // ---------------------------------------------------------------- output

    private static Raw member(Member m) {
        return Out.object("id", hex(m.getUniqueId()), "host", address(m.getHost()), "port", m.getPort(),
                "domain", hex(m.getDomain()), "payload", hex(m.getPayload()), "alive_ms", m.getMemberAliveTime());
    }

    private static String address(byte[] host) {
        try {
            return InetAddress.getByAddress(host).getHostAddress();
        } catch (UnknownHostException e) {
            return hex(host);
        }
    }

    /** Text that is JSON already. */
    private record Raw(String text) { }

    /** One JSON object a line on standard output, flushed. */
    private static final class Out {
        private final PrintStream stream =
                new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);

        /** Writes an event; {@code fields} are keys and values in turn, and a field whose value is null is left out. */
        void event(String name, Object... fields) {
            Object[] all = new Object[fields.length + 2];
            all[0] = "event";
            all[1] = name;
            System.arraycopy(fields, 0, all, 2, fields.length);
            String line = object(all).text() + "\n";
            synchronized (stream) {
                stream.print(line);
                stream.flush();
            }
        }

        void error(Exception e) {
            event("error", "error", e.toString());
        }

        static Raw object(Object... fields) {
            StringBuilder json = new StringBuilder("{");
            for (int i = 0; i < fields.length; i += 2) {
                if (fields[i + 1] != null) {
                    json.append(json.length() == 1 ? "" : ",");
                    value(json, fields[i]);
                    json.append(':');
                    value(json, fields[i + 1]);
                }
            }
            return new Raw(json.append('}').toString());
        }

        private static void value(StringBuilder json, Object value) {
            if (value instanceof Raw raw) {
                json.append(raw.text());
            } else if (value instanceof Number || value instanceof Boolean) {
                json.append(value);
            } else if (value instanceof List<?> list) {
                json.append('[');
                for (int i = 0; i < list.size(); i++) {
                    json.append(i == 0 ? "" : ",");
                    value(json, list.get(i));
                }
                json.append(']');
            } else {
                string(json, String.valueOf(value));
            }
        }

        private static void string(StringBuilder json, String text) {
            json.append('"');
            for (char c : text.toCharArray()) {
                if (c == '"' || c == '\\') {
                    json.append('\\').append(c);
                } else if (c < ' ') {
                    json.append(String.format("\\u%04x", (int) c));
                } else {
                    json.append(c);
                }
            }
            json.append('"');
        }
    }
}

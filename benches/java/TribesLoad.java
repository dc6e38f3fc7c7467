import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.Serializable;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.logging.Level;
import java.util.logging.Logger;
import org.apache.catalina.tribes.ByteMessage;
import org.apache.catalina.tribes.Channel;
import org.apache.catalina.tribes.ChannelException;
import org.apache.catalina.tribes.ChannelListener;
import org.apache.catalina.tribes.Member;
import org.apache.catalina.tribes.group.GroupChannel;
import org.apache.catalina.tribes.group.interceptors.MessageDispatchInterceptor;
import org.apache.catalina.tribes.group.interceptors.StaticMembershipInterceptor;
import org.apache.catalina.tribes.membership.StaticMember;
import org.apache.catalina.tribes.transport.ReceiverBase;

/**
 * The Java original as a contestant of `tribes load report --against`: the same options, the same conversation on standard input
 * and output, the same payloads (header of 24 bytes, little-endian: number, nanoseconds, kind, index).
 */
public final class TribesLoad implements ChannelListener {
    private static final int WARM_UP = 0, DATA = 1, PING = 2, PONG = 3, END = 4;

    private final Map<String, String> args = new HashMap<>();
    private final GroupChannel channel = new GroupChannel();
    private final int options;
    private final int index;
    private final int payload;
    private final String[] peers;

    // What was received; guarded by this, as Tribes delivers on several threads.
    private long messages, bad, reordered, due, announced = -1, first, last;
    private double cpuAtFirst;
    private final long[] oneway = new long[1 << 20];
    private boolean told;
    private CountDownLatch pongs = new CountDownLatch(0);

    // What was sent: a sample of the calls' times.
    private final long[] calls = new long[1 << 20];
    private long sent, errors;
    private String lastError;

    private TribesLoad(String[] words) {
        for (int i = 0; i < words.length; i++) {
            if (words[i].startsWith("--") && !words[i].equals("--json")) {
                args.put(words[i].substring(2), words[++i]);
            }
        }
        options = switch (args.getOrDefault("options", "none")) {
            case "none" -> 0;
            case "async" -> Channel.SEND_OPTIONS_ASYNCHRONOUS;
            case "ack" -> Channel.SEND_OPTIONS_USE_ACK;
            case "sync-ack" -> Channel.SEND_OPTIONS_USE_ACK | Channel.SEND_OPTIONS_SYNCHRONIZED_ACK;
            default -> throw new IllegalArgumentException("--options " + args.get("options"));
        };
        index = Integer.parseInt(args.getOrDefault("index", "0"));
        payload = Integer.parseInt(args.getOrDefault("payload", "1024"));
        peers = args.getOrDefault("peers", "").split(",");
    }

    public static void main(String[] words) throws Exception {
        Logger.getLogger("").setLevel(Level.SEVERE);
        new TribesLoad(words).run();
        System.exit(0);
    }

    private void run() throws Exception {
        boolean sends = !args.getOrDefault("role", "receiver").equals("receiver");
        start();
        while (sends && channel.getMembers().length < peers.length) {
            Thread.sleep(20);
        }
        System.out.println("READY");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            if (line.trim().equals("GO") && sends) {
                Thread sender = new Thread(this::send);
                sender.setDaemon(true);
                sender.start();
            } else if (line.trim().equals("REPORT")) {
                tell();
            }
        }
        channel.stop(Channel.DEFAULT);
    }

    private void start() throws ChannelException {
        channel.setJmxEnabled(false);
        StaticMember local = member(args.get("bind"));
        local.setLocal(true);
        ReceiverBase receiver = (ReceiverBase) channel.getChannelReceiver();
        receiver.setAddress(args.get("bind").split(":")[0]);
        receiver.setPort(local.getPort());
        receiver.setAutoBind(1);
        if ((options & Channel.SEND_OPTIONS_ASYNCHRONOUS) != 0) {
            channel.addInterceptor(new MessageDispatchInterceptor());
        }
        StaticMembershipInterceptor members = new StaticMembershipInterceptor();
        for (String peer : peers) {
            members.addStaticMember(member(peer));
        }
        members.setLocalMember(local);
        channel.addInterceptor(members);
        channel.addChannelListener(this);
        channel.start(Channel.SND_RX_SEQ | Channel.SND_TX_SEQ);
    }

    private static StaticMember member(String address) throws ChannelException {
        String[] parts = address.split(":");
        try {
            StaticMember member = new StaticMember(parts[0], Integer.parseInt(parts[1]), 0);
            byte[] id = new byte[16];
            ByteBuffer.wrap(id).putInt(Integer.parseInt(parts[1]));
            member.setUniqueId(id);
            return member;
        } catch (java.io.IOException unknownHost) {
            throw new ChannelException(unknownHost);
        }
    }

    private void send() {
        boolean pingPong = args.getOrDefault("mode", "flood").equals("pingpong");
        flood(WARM_UP, seconds("warmup"), Long.MAX_VALUE, pingPong);
        long limit = Long.parseLong(args.getOrDefault("messages", "0"));
        sent = 0;
        errors = 0;
        double cpu = cpu();
        flood(DATA, limit > 0 ? Long.MAX_VALUE : seconds("seconds"), limit > 0 ? limit : Long.MAX_VALUE, pingPong);
        one(END, pingPong ? 0 : sent);
        long[] sorted = Arrays.copyOf(calls, (int) Math.min(sent, calls.length));
        Arrays.sort(sorted);
        String key = pingPong ? "rtt" : "send";
        print("\"tx_msgs\":%d,\"%s_p50_us\":%f,\"%s_p99_us\":%f,\"errors\":%d,\"last_error\":%s,\"tx_cpu_s\":%f".formatted(
            sent, key, at(sorted, 0.5), key, at(sorted, 0.99), errors,
            lastError == null ? "null" : '"' + lastError.replaceAll("[\"\\\\\\p{Cntrl}]", " ") + '"', cpu() - cpu));
    }

    private long seconds(String option) {
        return (long) (Double.parseDouble(args.getOrDefault(option, "0.5")) * 1e9);
    }

    private void flood(int kind, long nanos, long limit, boolean pingPong) {
        long start = System.nanoTime();
        for (long now = start; now - start < nanos && sent < limit; ) {
            if (pingPong) {
                pongs = new CountDownLatch(peers.length);
            }
            one(pingPong ? PING : kind, sent);
            if (pingPong) {
                try {
                    pongs.await();
                } catch (InterruptedException ended) {
                    return;
                }
            }
            long then = System.nanoTime();
            calls[(int) (sent++ & (calls.length - 1))] = then - now;
            now = then;
        }
    }

    private void one(int kind, long number) {
        byte[] body = new byte[Math.max(payload, 24)];
        ByteBuffer.wrap(body).order(ByteOrder.LITTLE_ENDIAN)
            .putLong(number).putLong(System.nanoTime()).put((byte) kind).put((byte) index);
        try {
            channel.send(channel.getMembers(), new ByteMessage(body), options);
        } catch (ChannelException failed) {
            errors++;
            lastError = failed.toString();
        }
    }

    @Override
    public boolean accept(Serializable message, Member sender) {
        return message instanceof ByteMessage;
    }

    @Override
    public void messageReceived(Serializable message, Member sender) {
        byte[] body = ((ByteMessage) message).getMessage();
        ByteBuffer header = ByteBuffer.wrap(body).order(ByteOrder.LITTLE_ENDIAN);
        switch (body[16]) {
            case DATA -> count(header.getLong(0), header.getLong(8), body.length);
            case END -> {
                synchronized (this) {
                    announced = header.getLong(0);
                }
                tellIfComplete();
            }
            case PING -> {
                byte[] answer = body.clone();
                answer[16] = PONG;
                try {
                    channel.send(new Member[] {sender}, new ByteMessage(answer), options & ~Channel.SEND_OPTIONS_SYNCHRONIZED_ACK);
                } catch (ChannelException failed) {
                    System.err.println("an answer did not arrive: " + failed);
                }
            }
            case PONG -> pongs.countDown();
            default -> { }
        }
    }

    private void count(long number, long stamp, int length) {
        long now = System.nanoTime();
        synchronized (this) {
            if (messages == 0) {
                first = now;
                cpuAtFirst = cpu();
            }
            oneway[(int) (messages++ & (oneway.length - 1))] = now - stamp;
            last = now;
            if (length != payload) {
                bad++;
            }
            if (number < due) {
                reordered++;
            } else {
                due = number + 1;
            }
        }
        tellIfComplete();
    }

    private void tellIfComplete() {
        synchronized (this) {
            if (announced < 0 || messages < announced) {
                return;
            }
        }
        tell();
    }

    /** A receiver's figures, once. */
    private void tell() {
        String line;
        synchronized (this) {
            if (told || args.getOrDefault("role", "receiver").equals("sender")) {
                return;
            }
            told = true;
            double seconds = Math.max(last - first, 1) / 1e9;
            long[] sorted = Arrays.copyOf(oneway, (int) Math.min(messages, oneway.length));
            Arrays.sort(sorted);
            long lost = announced < 0 ? -1 : announced - messages;
            line = ("\"rx_msgs\":%d,\"rx_msgs_per_s\":%f,\"rx_mib_per_s\":%f,\"oneway_p50_us\":%f,\"oneway_p99_us\":%f,"
                + "\"lost\":%d,\"bad\":%d,\"reordered\":%d,\"complete\":%b,\"rx_cpu_s\":%f").formatted(
                messages, messages / seconds, messages * (double) payload / seconds / (1 << 20), at(sorted, 0.5),
                at(sorted, 0.99), lost, bad, reordered, lost == 0, cpu() - cpuAtFirst);
        }
        print(line);
    }

    private void print(String figures) {
        System.out.println("{\"sys\":\"java-tribes\",\"role\":\"" + args.getOrDefault("role", "receiver") + "\",\"index\":" + index + "," + figures + "}");
    }

    private static double at(long[] sorted, double share) {
        return sorted.length == 0 ? -1 : sorted[(int) (share * (sorted.length - 1))] / 1e3;
    }

    private static double cpu() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime() / 1e9;
    }

    static {
        Locale.setDefault(Locale.ROOT);
    }
}

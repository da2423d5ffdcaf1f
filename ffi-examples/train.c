/*
 * Trains the sentiment network on the movie reviews from nothing, as train.rs does in Rust: six epochs, then
 * the share of the test sentences it is right about, how fast it scores them, and the bytes of its file.
 * train.rs says what is and what is not as in data/train_keras.py.
 *
 *     train            seed 0, two SimpleRNN layers
 *     train 1          another seed
 *     train 0 lstm     two LSTM layers; or gru
 */
#define _POSIX_C_SOURCE 200809L

#include <time.h>

#include "elman.h"
#include "reviews.h"

enum { VOCABULARY = 5000, UNITS = 64, BATCH = 128, EPOCHS = 6 };

static void check(elman_status status)
{
    if (status != ELMAN_STATUS_OK)
        fail(elman_status_name(status), elman_last_error());
}

/* A recurrent layer of 64 units that drops half of its inputs in training. */
static void add_recurrent(elman_sequential *network, const char *cell, bool return_sequences)
{
    if (strcmp(cell, "simple_rnn") == 0) {
        elman_simple_rnn_config config;
        check(elman_simple_rnn_config_init(&config, sizeof config, UNITS));
        config.dropout = 0.5f;
        config.return_sequences = return_sequences;
        check(elman_sequential_add_simple_rnn(network, &config));
    } else if (strcmp(cell, "lstm") == 0) {
        elman_lstm_config config;
        check(elman_lstm_config_init(&config, sizeof config, UNITS));
        config.dropout = 0.5f;
        config.return_sequences = return_sequences;
        check(elman_sequential_add_lstm(network, &config));
    } else if (strcmp(cell, "gru") == 0) {
        elman_gru_config config;
        check(elman_gru_config_init(&config, sizeof config, UNITS));
        config.dropout = 0.5f;
        config.return_sequences = return_sequences;
        check(elman_sequential_add_gru(network, &config));
    } else {
        fail(cell, "is none of simple_rnn, lstm and gru");
    }
}

static elman_sequential *make_network(const char *cell, uint64_t seed)
{
    elman_sequential *network;
    check(elman_sequential_new(1, &network));
    check(elman_sequential_add_embedding(network, VOCABULARY, 100, true));
    add_recurrent(network, cell, true);
    add_recurrent(network, cell, false);
    check(elman_sequential_add_dense(network, 1, ELMAN_ACTIVATION_SIGMOID));
    check(elman_sequential_build(network, seed));
    return network;
}

static elman_examples examples(const rows *from)
{
    elman_examples made;
    check(elman_examples_init(&made, sizeof made));
    made.ids = from->ids;
    made.ids_len = from->count * STEPS;
    made.batch = from->count;
    made.steps = STEPS;
    made.target = from->labels;
    made.target_len = from->count;
    return made;
}

static bool print_epoch(void *nothing, const elman_epoch_end *end)
{
    (void)nothing;
    printf("epoch %zu: loss %.4f, test accuracy %.4f\n", end->epoch + 1, (double)end->loss,
           (double)end->validation_accuracy);
    return true;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Scores the test sentences; gives the share that the network is right about. */
static double score(const elman_sequential *network, const rows *test)
{
    float *scores = resize(NULL, test->count, sizeof *scores);
    size_t right = 0;
    double time = -seconds();
    for (size_t first = 0; first < test->count; first += BATCH) {
        size_t batch = test->count - first < BATCH ? test->count - first : BATCH;
        check(elman_sequential_predict_tokens(network, test->ids + first * STEPS, batch * STEPS, batch, STEPS,
                                              scores + first, batch));
    }
    time += seconds();
    for (size_t i = 0; i < test->count; i++)
        right += (scores[i] > 0.5f) == (test->labels[i] > 0.5f);
    printf("sentences per second: %.0f\n", (double)test->count / time);
    free(scores);
    return (double)right / (double)test->count;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    const char *cell = argc > 2 ? argv[2] : "simple_rnn";
    rows training = {NULL, NULL, 0, 0}, test = {NULL, NULL, 0, 0};
    vocabulary words = load_vocabulary();
    elman_trainer_config config;
    elman_fit_config fit;
    elman_examples learned, validation;
    elman_sequential *network;
    elman_trainer *trainer;
    size_t bytes;
    double start;

    network = make_network(cell, seed);
    read_reviews(&words, &training, &test);
    free_vocabulary(&words);
    printf("%zu rows to train on, %zu to test\n", training.count, test.count);
    learned = examples(&training);
    validation = examples(&test);
    check(elman_trainer_config_init(&config, sizeof config));
    config.loss = ELMAN_LOSS_BINARY_CROSSENTROPY;
    config.seed = seed;
    config.learning_rate = 0.001f;
    config.schedule = ELMAN_SCHEDULE_COSINE;
    config.decay_steps = EPOCHS * ((training.count + BATCH - 1) / BATCH);
    check(elman_trainer_new(network, &config, &trainer));
    check(elman_fit_config_init(&fit, sizeof fit));
    fit.epochs = EPOCHS;
    fit.batch_size = BATCH;
    fit.validation = &validation;
    fit.on_epoch = print_epoch;
    start = seconds();
    check(elman_trainer_fit(trainer, &learned, &fit, NULL));
    printf("seconds: %.2f\n", seconds() - start);
    printf("test accuracy: %.4f\n", score(network, &test));
    check(elman_sequential_save_bytes(network, NULL, 0, &bytes));
    printf("model bytes: %zu\n", bytes);

    elman_trainer_free(trainer);
    elman_sequential_free(network);
    free_rows(&training);
    free_rows(&test);
    return EXIT_SUCCESS;
}
